//! The modelled IBM Z machine behind the lower door: cores, memory and Ultravisor together.
