//! What can go wrong; the interpreter goes on without host code then.

/// Why there is no host code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host is not one that this back end generates code for.
    #[error("no host code for this processor: {0}")]
    Host(&'static str),
    /// The host gives no memory for code.
    #[error("cannot map memory for code: {0}; the host may forbid executable mappings")]
    Map(#[source] std::io::Error),
    /// Code memory is used up; [`Jit::clear`](crate::Jit::clear) makes room.
    #[error("the {0} bytes for code are used up")]
    Full(usize),
    /// The code generator failed.
    #[error("code generator: {0}")]
    Generator(String),
}
