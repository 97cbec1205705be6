//! Confidential guest support: the framework and one module per mechanism.
