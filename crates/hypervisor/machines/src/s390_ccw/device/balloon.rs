//! virtio-balloon, and the decision whether the host may let go of what is in it.

use super::{Handle, Host, Made, Request};
use crate::MachineError;
use cloister_control::Event;
use cloister_devices::virtio::balloon::{Balloon, BalloonControl, BalloonOptions, Discard, PAGE};
use std::sync::atomic::Ordering;

pub(super) fn make(request: &Request<'_>) -> Result<Made, MachineError> {
    let properties = &request.spec.properties;
    for name in ["free-page-hint", "free-page-reporting"] {
        if properties.bool(name) == Some(true) {
            return Err(request.fail(format!("{name} is not part of this version of Cloister; leave it out")));
        }
    }
    let defaults = BalloonOptions::default();
    let options = BalloonOptions {
        deflate_on_oom: properties.bool("deflate-on-oom").unwrap_or(defaults.deflate_on_oom),
        page_poison: properties.bool("page-poison").unwrap_or(defaults.page_poison),
    };
    let control = BalloonControl::new();
    let (events, memory) = (request.host.events.clone(), request.host.memory.size());
    let observer = move |pages| events.emit(Event::BalloonChange { actual: kept(memory, pages) });
    let discard = Box::new(Pages(request.host.clone()));
    let balloon = Balloon::new(control.clone(), options, discard, Box::new(observer));
    let waker = Some(control.waker().clone());
    Ok(Made { waker, handle: Handle::Balloon(control), ..request.behind_ccw(Box::new(balloon)) })
}

/// Bytes that the guest keeps of so many, with so many pages in the balloon.
pub(in crate::s390_ccw) fn kept(memory: u64, pages: u32) -> u64 {
    memory.saturating_sub(u64::from(pages) * PAGE)
}

struct Pages(Host);

impl Discard for Pages {
    /// The pages of a protected guest are not the host's to discard, whatever the guest says.
    fn discard(&self, address: u64, len: u64) {
        if self.0.protected.load(Ordering::Acquire) {
            return;
        }
        if let Err(why) = self.0.memory.discard(address, len) {
            tracing::debug!(address, len, %why, "virtio-balloon: pages stay");
        }
    }
}
