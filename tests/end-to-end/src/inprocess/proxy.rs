//! The proxy guest (`guests/s390x/proxy.s`) at work: Ultravisor calls of a protected guest, made one by one.
//!
//! The machine runs on a thread of its own. While the guest says `ready` its CPU is outside the core, and the test
//! may look and write as a host does. It is no `/dev/uv`: what a call needs and gives is bytes in a mailbox.

use super::{Boot, Run, World};
use cloister_formats::s390x::attestation::MEASUREMENT_SIZE;
use cloister_formats::s390x::exchange::ExchangeResponse;
use cloister_formats::s390x::uvcb::{RetrAttest, UvHeader};
use cloister_machines::MachineError;
use cloister_platform_store::Platform;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Where the guest puts its input, in private storage.
pub const INPUT: u64 = 0x6_1000;
/// Where it expects output, in private storage.
pub const OUTPUT: u64 = 0x6_4000;
/// Bytes of output that it can give.
pub const OUTPUT_SIZE: usize = 0x2000;

const MAILBOX: u64 = 0x5_0000;
const MAILBOX_BLOCK: u64 = MAILBOX + 0x100;
const MAILBOX_INPUT: u64 = MAILBOX + 0x1000;
const MAILBOX_OUTPUT: u64 = MAILBOX + 0x4000;
const INPUT_SIZE: usize = 0x3000;
const BLOCK_SIZE: usize = 0x200;

/// Where in the output additional data of an attestation goes; the measurement goes to its start.
const ADDITIONAL: usize = 0x1000;

/// A call for an attestation with arguments that nothing is wrong with; its request is in the input.
pub fn attest_call(user_data: &[u8]) -> RetrAttest {
    let mut call = RetrAttest {
        arcb_addr: INPUT,
        user_data_len: user_data.len() as u16,
        meas_len: MEASUREMENT_SIZE as u32,
        meas_addr: OUTPUT,
        add_len: (OUTPUT_SIZE - ADDITIONAL) as u32,
        add_addr: OUTPUT + ADDITIONAL as u64,
        ..RetrAttest::default()
    };
    call.user_data[..user_data.len()].copy_from_slice(user_data);
    call
}

/// A running proxy.
pub struct Proxy {
    jobs: Sender<Job>,
    machine: JoinHandle<Result<Run, MachineError>>,
}

/// The answer to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// Return code.
    pub rc: u16,
    /// Return reason code.
    pub rrc: u16,
    /// The control block as it came back.
    pub block: Vec<u8>,
}

enum Job {
    Look(Box<dyn FnOnce(&World) + Send>),
    Go,
}

/// The mailbox's orders.
#[derive(Clone, Copy)]
enum Order {
    PowerOff = 0,
    Call = 1,
    Give = 3,
}

impl Proxy {
    /// Boots the image, which has the proxy for its kernel.
    pub fn start(platform: Platform, image: &Path) -> Self {
        let image = image.to_owned();
        let (jobs, orders) = channel();
        let orders: Mutex<Receiver<Job>> = Mutex::new(orders);
        let machine = std::thread::spawn(move || {
            let boot = Boot::protected(platform, &image).turns(u64::MAX);
            boot.on_line(move |line, world| {
                if line != "ready" {
                    return;
                }
                while let Ok(Job::Look(look)) = super::lock(&orders).recv() {
                    look(world);
                }
            })
            .run()
        });
        Self { jobs, machine }
    }

    /// Looks at the machine while the guest is at rest.
    ///
    /// # Panics
    /// If the guest is gone.
    pub fn look<T: Send + 'static>(&self, look: impl FnOnce(&World) -> T + Send + 'static) -> T {
        let (answer, result) = channel();
        let job = move |world: &World| {
            let _ = answer.send(look(world));
        };
        let sent = self.jobs.send(Job::Look(Box::new(job)));
        sent.ok().and_then(|()| result.recv().ok()).expect("the guest is ready once more")
    }

    /// Makes a call. The block's addresses are private ones, such as [`INPUT`] and [`OUTPUT`].
    pub fn call(&self, block: &[u8], input: &[u8]) -> Called {
        let mut page = vec![0; BLOCK_SIZE];
        page[..block.len()].copy_from_slice(block);
        let mut data = vec![0; INPUT_SIZE];
        data[..input.len()].copy_from_slice(input);
        self.look(move |world| {
            world.host.write(MAILBOX_BLOCK, &page);
            world.host.write(MAILBOX_INPUT, &data);
        });
        self.order(Order::Call);
        let len = block.len();
        let block = self.look(move |world| {
            let mut block = vec![0; len];
            world.host.read(MAILBOX_BLOCK, &mut block);
            block
        });
        let header = UvHeader::parse(&block).expect("a block has a header");
        Called { rc: header.rc.0, rrc: header.rrc.0, block }
    }

    /// The output, which the guest kept private until now.
    pub fn output(&self) -> Vec<u8> {
        self.order(Order::Give);
        self.look(|world| {
            let mut output = vec![0; OUTPUT_SIZE];
            world.host.read(MAILBOX_OUTPUT, &mut output);
            output
        })
    }

    /// Has the guest attested for a request, and gives the answer as it would travel; or the codes of a refusal.
    ///
    /// # Errors
    /// rc and rrc.
    pub fn attest(&self, arcb: &[u8], user_data: &[u8]) -> Result<ExchangeResponse, (u16, u16)> {
        let called = self.call(&attest_call(user_data).encode(), arcb);
        if called.rc != 1 {
            return Err((called.rc, called.rrc));
        }
        let answer = RetrAttest::parse(&called.block).expect("a block of its own kind");
        let output = self.output();
        Ok(ExchangeResponse {
            arcb: arcb.to_vec(),
            measurement: output[..MEASUREMENT_SIZE].to_vec(),
            additional: output[ADDITIONAL..][..answer.add_len as usize].to_vec(),
            user_data: user_data.to_vec(),
            config_uid: answer.config_uid,
        })
    }

    /// How often `needle` stands in the memory that the host sees.
    pub fn seen_by_host(&self, needle: &[u8]) -> usize {
        let needle = needle.to_vec();
        self.look(move |world| {
            let mut all = vec![0; world.host.size() as usize];
            world.host.read(0, &mut all);
            all.windows(needle.len()).filter(|part| *part == needle).count()
        })
    }

    /// Lets the guest end.
    ///
    /// # Panics
    /// If the machine failed.
    pub fn end(self) -> Run {
        self.order(Order::PowerOff);
        drop(self.jobs);
        let run = self.machine.join().expect("the machine's thread ends");
        run.unwrap_or_else(|error| panic!("{error}"))
    }

    fn order(&self, order: Order) {
        self.look(move |world| world.host.write(MAILBOX, &(order as u64).to_be_bytes()));
        self.jobs.send(Job::Go).expect("the guest is there");
    }
}
