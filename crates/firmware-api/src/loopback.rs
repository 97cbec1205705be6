//! A lower door that turns every message into bytes and back.

use crate::{Door, Request, Response};
use std::sync::Arc;

/// Serialises every request and response on the way.
pub struct Loopback(Arc<dyn Door>);

impl Loopback {
    /// A loopback in front of `inner`.
    pub fn new(inner: Arc<dyn Door>) -> Self {
        Self(inner)
    }
}

fn over_the_wire<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) -> Result<T, String> {
    let bytes = postcard::to_stdvec(message).map_err(|e| format!("message cannot be written: {e}"))?;
    postcard::from_bytes(&bytes).map_err(|e| format!("message cannot be read: {e}"))
}

impl Door for Loopback {
    fn call(&self, request: Request) -> Response {
        let request = match over_the_wire(&request) {
            Ok(request) => request,
            Err(why) => return Response::Refused(why),
        };
        let response = self.0.call(request);
        over_the_wire(&response).unwrap_or_else(Response::Refused)
    }
}
