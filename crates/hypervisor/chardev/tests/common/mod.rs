//! Descriptions of devices and peers for the tests.

use cloister_chardev::{Chardev, FdStore};
use cloister_options::{CharBackend, Chardev as Spec, FdName, SocketAddress, SocketSpec};
use std::path::Path;
use std::sync::Arc;

pub(crate) fn spec(backend: CharBackend) -> Spec {
    Spec { id: "a".into(), backend, signal: true, mux: false, log_file: None, log_append: false }
}

pub(crate) fn open(spec: &Spec) -> Arc<Chardev> {
    Chardev::open(spec, &FdStore::new()).unwrap()
}

pub(crate) fn refused(spec: &Spec) -> String {
    Chardev::open(spec, &FdStore::new()).unwrap_err().to_string()
}

pub(crate) fn socket(address: SocketAddress, server: bool) -> CharBackend {
    CharBackend::Socket(SocketSpec { address, server, wait: false, reconnect: None, no_delay: false })
}

pub(crate) fn unix(path: &Path, server: bool) -> CharBackend {
    socket(SocketAddress::Unix { path: path.to_owned(), abstract_: false, tight: true }, server)
}

pub(crate) fn fd(number: i32, server: bool) -> CharBackend {
    socket(SocketAddress::Fd(FdName::Number(number)), server)
}
