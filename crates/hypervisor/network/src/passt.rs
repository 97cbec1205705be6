//! passt, the process behind `-netdev user`: it speaks TCP and UDP with the host's sockets for the guest, as an
//! ordinary user without privileges (passt.top; passt(1)).
//!
//! It is started before this process gives up its right to run programs, goes into the background by itself once it
//! is ready, and ends when its socket closes, with this process or before.

use crate::error::NetworkError;
use cloister_options::{NetBackend, Netdev, UserNet};
use rustix::io::{FdFlags, fcntl_setfd};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// The gateway's Ethernet address, that of QEMU's network: nothing of the host's is shown.
const GATEWAY_MAC: &str = "52:55:0a:00:02:02";

/// Helpers that run: one for each user network of a command line.
#[derive(Debug, Default)]
pub struct Helpers(BTreeMap<String, OwnedFd>);

impl Helpers {
    /// Starts what the backends need and waits until it is ready, a few hundredths of a second for each.
    ///
    /// # Errors
    /// The program is missing or refuses, for example because a port of `hostfwd=` is taken.
    pub fn start(netdevs: &[Netdev]) -> Result<Self, NetworkError> {
        let mut sockets = BTreeMap::new();
        for netdev in netdevs {
            if let NetBackend::User(user) = &netdev.backend {
                sockets.insert(netdev.id.clone(), start(user)?);
            }
        }
        Ok(Self(sockets))
    }

    pub(crate) fn take(&mut self, id: &str) -> Option<OwnedFd> {
        self.0.remove(id)
    }
}

/// One passt; the answer is our end of its socket.
pub(crate) fn start(user: &UserNet) -> Result<OwnedFd, NetworkError> {
    let host = |what| move |source| NetworkError::Host { what, source };
    let (ours, theirs) = UnixStream::pair().map_err(host("make a pair of sockets"))?;
    // The one descriptor that the new process gets besides the standard streams.
    fcntl_setfd(&theirs, FdFlags::empty()).map_err(|e| host("pass a socket on")(e.into()))?;
    let mut command = Command::new("passt");
    command.args(arguments(user)).arg("--fd").arg(theirs.as_raw_fd().to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // It ends once the process in the background is ready, or with the reason why there is none.
    let output = command.output();
    drop(theirs);
    match output {
        Ok(output) if output.status.success() => Ok(ours.into()),
        Ok(output) => Err(NetworkError::Passt(reason(&output.stderr, output.status))),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Err(NetworkError::NoPasst),
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => Err(NetworkError::Sandboxed),
        Err(why) => Err(NetworkError::StartPasst(why)),
    }
}

fn arguments(user: &UserNet) -> Vec<String> {
    let mut out: Vec<String> = vec!["--quiet".into()];
    let mut add = |name: &str, value: String| out.extend([name.to_owned(), value]);
    if user.ipv4 {
        add("--address", user.guest.to_string());
        add("--netmask", user.network.1.to_string());
        add("--gateway", user.host.to_string());
        add("--dns-forward", user.dns.to_string());
    }
    add("--mac-addr", GATEWAY_MAC.to_owned());
    if !user.search.is_empty() {
        add("--search", user.search.join(" "));
    }
    for forward in &user.forwards {
        let host = forward.host.map(|host| format!("{host}/")).unwrap_or_default();
        let option = if forward.udp { "--udp-ports" } else { "--tcp-ports" };
        add(option, format!("{host}{}:{}", forward.host_port, forward.guest_port));
    }
    match (user.ipv4, user.ipv6) {
        (true, false) => out.push("--ipv4-only".into()),
        (false, true) => out.push("--ipv6-only".into()),
        _ => {}
    }
    out
}

/// What passt said last; its notes about the system log and its user say nothing about the reason.
fn reason(stderr: &[u8], status: std::process::ExitStatus) -> String {
    let text = String::from_utf8_lossy(stderr);
    let noise = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("Failed to send ") && !line.starts_with("Don't run as root")
    };
    let lines: Vec<&str> = text.lines().filter(noise).collect();
    match lines.iter().position(|line| line.starts_with("Usage:")) {
        Some(at) if at > 0 => lines[..at].join("; "),
        _ if lines.is_empty() => format!("it ended with {status} and gave no reason"),
        _ => lines[lines.len().saturating_sub(3)..].join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_options::parse_netdev_text;

    fn of(text: &str) -> Vec<String> {
        match parse_netdev_text(text).unwrap().backend {
            NetBackend::User(user) => arguments(&user),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_guest_finds_the_network_that_qemu_has() {
        let words = of("user,id=n").join(" ");
        assert_eq!(
            words,
            "--quiet --address 10.0.2.15 --netmask 24 --gateway 10.0.2.2 --dns-forward 10.0.2.3 --mac-addr 52:55:0a:00:02:02"
        );
        let words = of(
            "user,id=n,net=192.168.7.0/25,dhcpstart=192.168.7.9,ipv6=off,dnssearch=a.example,dnssearch=b.example",
        );
        let words = words.join(" ");
        assert!(words.contains("--address 192.168.7.9 --netmask 25 --gateway 192.168.7.2"), "{words}");
        assert!(words.ends_with("--search a.example b.example --ipv4-only"), "{words}");
    }

    #[test]
    fn forwarded_ports_become_those_of_passt() {
        let words = of("user,id=n,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.1:53-10.0.2.15:5353").join(" ");
        assert!(words.contains("--tcp-ports 2222:22 --udp-ports 127.0.0.1/53:5353"), "{words}");
    }
}
