//! Events of the machine as QMP's events, and the limit of one per second for those that have it.

use crate::monitor::lock;
use crate::table::{EVENTS, EventSpec};
use cloister_control::{Cause, Event};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// What QMP says of an event; `None`: nothing.
pub(crate) fn describe(event: &Event) -> Option<(&'static EventSpec, Value)> {
    let cause = |cause: &Cause| json!({ "guest": cause.by_guest(), "reason": cause.name() });
    let (name, data) = match event {
        Event::Shutdown(why) => ("SHUTDOWN", cause(why)),
        Event::Reset(why) => ("RESET", cause(why)),
        Event::Powerdown => ("POWERDOWN", Value::Null),
        Event::Stop => ("STOP", Value::Null),
        Event::Resume => ("RESUME", Value::Null),
        Event::DeviceDeleted { device: Some(device), path } => {
            ("DEVICE_DELETED", json!({ "device": device, "path": path }))
        }
        Event::DeviceDeleted { device: None, path } => ("DEVICE_DELETED", json!({ "path": path })),
        Event::GuestPanicked { cpu, psw, action } => {
            let info = json!({
                "type": "s390", "core": cpu, "psw-mask": psw.mask, "psw-addr": psw.addr, "reason": "disabled-wait",
            });
            ("GUEST_PANICKED", json!({ "action": action, "info": info }))
        }
        Event::BalloonChange { actual } => ("BALLOON_CHANGE", json!({ "actual": actual })),
        Event::PortChange { id, open } => ("VSERPORT_CHANGE", json!({ "id": id, "open": open })),
        Event::Watchdog(action) => ("WATCHDOG", json!({ "action": action.name() })),
        _ => return None,
    };
    EVENTS.iter().find(|spec| spec.name == name).map(|spec| (spec, data))
}

/// Lets one event of a kind through per second; of those that come too early the last is told when the second is over.
#[derive(Default)]
pub(crate) struct Throttle {
    windows: Arc<Mutex<BTreeMap<&'static str, Waiting>>>,
}

/// The last event that came too early.
type Waiting = Option<(Value, SystemTime)>;

/// The length of the window (QEMU's, for all events that it limits).
const WINDOW: Duration = Duration::from_secs(1);

impl Throttle {
    /// Gives the event back if it may be told now; otherwise `tell` is called with the last one at the end of the
    /// window.
    pub(crate) fn take(
        &self,
        spec: &'static EventSpec,
        data: Value,
        at: SystemTime,
        tell: impl Fn(Value, SystemTime) + Send + 'static,
    ) -> Option<(Value, SystemTime)> {
        if let Some(waiting) = lock(&self.windows).get_mut(spec.name) {
            *waiting = Some((data, at));
            return None;
        }
        lock(&self.windows).insert(spec.name, None);
        let windows = Arc::clone(&self.windows);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(WINDOW);
                let mut windows = lock(&windows);
                match windows.get_mut(spec.name).and_then(Option::take) {
                    Some((data, at)) => {
                        drop(windows);
                        tell(data, at);
                    }
                    None => {
                        windows.remove(spec.name);
                        return;
                    }
                }
            }
        });
        Some((data, at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn rule_9_a_limited_event_comes_once_a_second_and_the_last_wins() {
        static SPEC: EventSpec = EventSpec { name: "RTC_CHANGE", doc: "", data: &[], limited: true };
        let throttle = Throttle::default();
        let (to, from) = mpsc::channel();
        let take = |n: u32| {
            let to = to.clone();
            throttle.take(&SPEC, json!(n), SystemTime::now(), move |data, _| drop(to.send(data)))
        };
        assert!(take(1).is_some());
        assert!(take(2).is_none());
        assert!(take(3).is_none());
        assert_eq!(from.recv_timeout(Duration::from_secs(5)), Ok(json!(3)));
        assert!(from.try_recv().is_err());
    }
}
