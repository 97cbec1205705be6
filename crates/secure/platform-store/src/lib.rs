//! The platform folder: a modelled machine's identity, switches and lock.
