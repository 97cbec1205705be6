//! A model of the IBM Z Ultravisor.
