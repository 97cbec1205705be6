//! A door that turns every message into bytes and back.
//!
//! It shows that nothing but plain data crosses, which is the condition for putting the two worlds into
//! processes of their own. It does not put them there.

use crate::{Door, Request, Response};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Serialises every request and response on the way.
pub struct Loopback {
    inner: Arc<dyn Door>,
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// What went through a [`Loopback`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Requests and responses.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Loopback {
    /// A loopback in front of `inner`.
    pub fn new(inner: Arc<dyn Door>) -> Self {
        Self { inner, messages: AtomicU64::new(0), bytes: AtomicU64::new(0) }
    }

    /// What went through.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            messages: self.messages.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    fn over_the_wire<T: serde::Serialize + serde::de::DeserializeOwned>(
        &self,
        message: &T,
    ) -> Result<T, String> {
        let bytes = postcard::to_stdvec(message).map_err(|e| format!("message cannot be written: {e}"))?;
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        postcard::from_bytes(&bytes).map_err(|e| format!("message cannot be read: {e}"))
    }
}

impl Door for Loopback {
    fn call(&self, request: Request) -> Response {
        let request = match self.over_the_wire(&request) {
            Ok(request) => request,
            Err(why) => return Response::Refused(why),
        };
        let response = self.inner.call(request);
        self.over_the_wire(&response).unwrap_or_else(Response::Refused)
    }
}
