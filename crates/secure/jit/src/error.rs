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
    /// The memory for code is used up.
    #[error("the memory for code is used up")]
    Full,
    /// The thread that translates cannot be started.
    #[error("cannot start the thread that translates: {0}")]
    Thread(#[source] std::io::Error),
    /// The code generator failed.
    #[error("code generator: {0}")]
    Generator(String),
}
