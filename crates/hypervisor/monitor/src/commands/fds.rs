//! Passed file descriptors.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Struct, Type, member, optional};
use cloister_chardev::ChardevError;
use cloister_control::ControlError;
use serde_json::{Value, json};
use std::os::fd::OwnedFd;

const ADDED: Struct = Struct::new("AddfdInfo", &[member("fdset-id", Type::Int), member("fd", Type::Int)]);
const FD: Struct = Struct::new("FdsetFdInfo", &[member("fd", Type::Int), optional("opaque", Type::Str)]);
const SET: Struct =
    Struct::new("FdsetInfo", &[member("fdset-id", Type::Int), member("fds", Type::List(&Type::Struct(&FD)))]);

pub(crate) const ROWS: &[Command] = &[
    Command::new("getfd", "Gives a descriptor passed with SCM_RIGHTS a name.", getfd)
        .takes(&[member("fdname", Type::Str)]),
    Command::new("closefd", "Closes a descriptor with a name.", |call| {
        call.monitor().fds().close(call.required("fdname")).map_err(refusal).map(|()| json!({}))
    })
    .takes(&[member("fdname", Type::Str)]),
    Command::new("add-fd", "Puts a passed descriptor into a set; `/dev/fdset/N` then opens it.", add_fd)
        .takes(&[optional("fdset-id", Type::Int), optional("opaque", Type::Str)])
        .returns(Type::Struct(&ADDED)),
    Command::new("remove-fd", "Takes one descriptor, or all, out of a set.", remove_fd)
        .takes(&[member("fdset-id", Type::Int), optional("fd", Type::Int)]),
    Command::new("query-fdsets", "Sets of descriptors.", query_fdsets)
        .returns(Type::List(&Type::Struct(&SET))),
];

fn refusal(error: ChardevError) -> ControlError {
    ControlError::new(error.to_string())
}

fn passed(call: &Call<'_>) -> Result<OwnedFd, ControlError> {
    call.session.take_fd().ok_or_else(|| ControlError::new("No file descriptor supplied via SCM_RIGHTS"))
}

fn getfd(call: &Call<'_>) -> Reply {
    call.monitor().fds().name(call.required("fdname"), passed(call)?).map_err(refusal)?;
    Ok(json!({}))
}

fn add_fd(call: &Call<'_>) -> Reply {
    let opaque = call.text("opaque").map(str::to_owned);
    let (set, fd) = call.monitor().fds().add(passed(call)?, call.int("fdset-id"), opaque).map_err(refusal)?;
    Ok(json!({ "fdset-id": set, "fd": fd }))
}

fn remove_fd(call: &Call<'_>) -> Reply {
    let fd = call.int("fd").map(|fd| i32::try_from(fd).unwrap_or(-1));
    call.monitor().fds().remove(call.int("fdset-id").unwrap_or(-1), fd).map_err(refusal)?;
    Ok(json!({}))
}

fn query_fdsets(call: &Call<'_>) -> Reply {
    let sets = call.monitor().fds().query().into_iter().map(|set| {
        let fds = set.fds.into_iter().map(|one| match one.opaque {
            Some(opaque) => json!({ "fd": one.fd, "opaque": opaque }),
            None => json!({ "fd": one.fd }),
        });
        json!({ "fdset-id": set.fdset_id, "fds": fds.collect::<Value>() })
    });
    Ok(sets.collect())
}
