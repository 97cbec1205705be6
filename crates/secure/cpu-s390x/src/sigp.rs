//! SIGNAL PROCESSOR (SA22-7832, chapter 4, "CPU Signaling and Response").
//!
//! Orders that need the addressed CPU's registers are queued and carried out by that CPU itself, between two
//! instructions; until then it answers busy.

use crate::cpu::Cpu;
use crate::op::{Flow, Op, Step};
use crate::state::ExtendedArea;
use crate::system::{Local, LocalQueue, Order};
use cloister_arch::s390x::{LocalInterrupt, ResetKind, facility};
use std::sync::atomic::Ordering;

const STATUS_NOT_RUNNING: u32 = 0x400;
const STATUS_INCORRECT_STATE: u32 = 0x200;
const STATUS_INVALID_PARAMETER: u32 = 0x100;
const STATUS_CALL_PENDING: u32 = 0x80;
const STATUS_STOPPED: u32 = 0x40;
const STATUS_CHECK_STOP: u32 = 0x10;
const STATUS_INVALID_ORDER: u32 = 0x02;

/// Answer to an order.
enum Answer {
    Accepted,
    Status(u32),
    Busy,
    NotOperational,
}

impl Cpu {
    /// SIGP.
    pub(crate) fn sigp(&mut self, op: &Op) -> Step {
        let order = (self.ea(op) & 0xff) as u8;
        let address = self.w(op.r2) as u16;
        let parameter = self.g(op.r1 | 1);
        self.cc = match self.signal(order, address, parameter) {
            Answer::Accepted => 0,
            Answer::Status(status) => {
                self.set_w(op.r1, status);
                1
            }
            Answer::Busy => 2,
            Answer::NotOperational => 3,
        };
        Ok(Flow::End)
    }

    fn signal(&mut self, order: u8, address: u16, parameter: u64) -> Answer {
        if order == 0x12 {
            // Set architecture: this configuration knows z/Architecture only and is in it.
            return Answer::Status(STATUS_INVALID_PARAMETER);
        }
        let env = self.env.clone();
        let Some(target) = env.local(address) else { return Answer::NotOperational };
        if order == 0x15 {
            let running = address == self.address || target.running.load(Ordering::Relaxed);
            if !running {
                self.give_way();
                return Answer::Status(STATUS_NOT_RUNNING);
            }
            return Answer::Accepted;
        }
        if target.with_queue(|queue| !queue.orders.is_empty()) {
            self.give_way();
            return Answer::Busy;
        }
        // After the queue: an order that has just been carried out may have changed it.
        let state = target.state.load(Ordering::SeqCst);
        let stopped = state == Local::STOPPED;
        let queue = |change: &mut dyn FnMut(&mut LocalQueue)| {
            target.with_queue(change);
            env.attention(address);
            Answer::Accepted
        };
        let own = address == self.address;
        // Also on this CPU itself it happens between two instructions: now.
        let order_now = |cpu: &mut Self, order: Order| {
            if !own {
                return queue(&mut |queue| queue.orders.push_back(order));
            }
            match cpu.carry_out(order) {
                Ok(()) => Answer::Accepted,
                Err(_) => Answer::Status(STATUS_INVALID_PARAMETER),
            }
        };
        match order {
            // Sense
            0x01 => {
                let mut status = match state {
                    Local::STOPPED => STATUS_STOPPED,
                    Local::CHECK_STOP => STATUS_CHECK_STOP,
                    _ => 0,
                };
                if target.with_queue(|queue| queue.external_call.is_some()) {
                    status |= STATUS_CALL_PENDING;
                }
                if !own && status & STATUS_STOPPED == 0 {
                    // Asked again and again until the other has stopped or taken the call.
                    self.give_way();
                }
                if status == 0 { Answer::Accepted } else { Answer::Status(status) }
            }
            // External call
            0x02 => {
                let source = self.address;
                let taken = target.with_queue(|queue| match queue.external_call {
                    Some(_) => false,
                    None => {
                        queue.external_call = Some(source);
                        true
                    }
                });
                if !taken {
                    return Answer::Status(STATUS_CALL_PENDING);
                }
                env.attention(address);
                Answer::Accepted
            }
            // Emergency signal
            0x03 => {
                let interrupt = LocalInterrupt::EmergencySignal(self.address);
                queue(&mut |queue| queue.add(interrupt))
            }
            // Start
            0x04 => {
                if stopped {
                    target.state.store(Local::OPERATING, Ordering::SeqCst);
                    env.attention(address);
                }
                Answer::Accepted
            }
            // Stop
            0x05 if stopped => Answer::Accepted,
            0x05 => queue(&mut |queue| queue.add(LocalInterrupt::Stop { store_status: false })),
            // Restart
            0x06 => queue(&mut |queue| queue.add(LocalInterrupt::Restart)),
            // Stop and store status
            0x09 if stopped => order_now(self, Order::StoreStatus(Order::AT_PREFIX)),
            0x09 => queue(&mut |queue| queue.add(LocalInterrupt::Stop { store_status: true })),
            // Initial CPU reset, CPU reset
            0x0b | 0x0c => {
                let kind = if order == 0x0b { ResetKind::Initial } else { ResetKind::Normal };
                order_now(self, Order::Reset(kind))
            }
            // Set prefix
            0x0d => {
                let prefix = parameter as u32 & 0x7fff_e000;
                if !self.has_storage(u64::from(prefix)) || !self.has_storage(u64::from(prefix) + 0x1000) {
                    return Answer::Status(STATUS_INVALID_PARAMETER);
                }
                if !stopped {
                    return Answer::Status(STATUS_INCORRECT_STATE);
                }
                order_now(self, Order::SetPrefix(prefix))
            }
            // Store status at address
            0x0e => {
                let absolute = parameter & 0x7fff_fe00;
                if !self.has_storage(absolute) {
                    return Answer::Status(STATUS_INVALID_PARAMETER);
                }
                if !stopped {
                    return Answer::Status(STATUS_INCORRECT_STATE);
                }
                order_now(self, Order::StoreStatus(absolute))
            }
            // Conditional emergency signal: the guest asks us to spare a CPU that is not waiting in the given
            // space; delivering it is always right.
            0x16 => {
                let interrupt = LocalInterrupt::EmergencySignal(self.address);
                queue(&mut |queue| queue.add(interrupt))
            }
            // Store additional status at address
            0x17 if self.facility(facility::VECTOR) || self.facility(facility::GUARDED_STORAGE) => {
                let guarded = self.facility(facility::GUARDED_STORAGE);
                match ExtendedArea::designated(parameter, guarded) {
                    Some(_) if !stopped => Answer::Status(STATUS_INCORRECT_STATE),
                    Some(area) if self.has_storage(parameter) => {
                        order_now(self, Order::StoreAdditionalStatus(area))
                    }
                    _ => Answer::Status(STATUS_INVALID_PARAMETER),
                }
            }
            _ => Answer::Status(STATUS_INVALID_ORDER),
        }
    }

    fn has_storage(&self, absolute: u64) -> bool {
        self.env.storage.record(absolute >> 12).is_some()
    }
}

impl Order {
    /// Address of a store-status order that means the CPU's own save area.
    pub(crate) const AT_PREFIX: u64 = u64::MAX;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::System;
    use cloister_arch::s390x::{TimeMode, VmConfig};
    use cloister_memory::Storage;
    use std::sync::Arc;

    /// A CPU that brings up another signals reset, set prefix and restart in a row. If the other has taken the reset and
    /// is slow to carry it out, what follows must not be forgotten by it.
    #[test]
    fn a_reset_forgets_no_order_that_came_while_it_was_carried_out() {
        let storage = Arc::new(Storage::new(1 << 20).expect("storage"));
        let config = VmConfig {
            memory_bytes: storage.size(),
            max_cpus: 1,
            facilities: [0; 4],
            cpu_id: 0,
            time: TimeMode::Virtual { shift: 0 },
            tod_start: None,
            name: String::new(),
            uuid: [0; 16],
        };
        let system = System::new(config, storage).expect("a system");
        let mut vcpu = crate::system::lock(&system.vcpus[0]);
        let cpu = &mut vcpu.cpu;
        cpu.local().with_queue(|queue| {
            queue.add(LocalInterrupt::EmergencySignal(0));
            queue.orders.push_back(Order::Reset(ResetKind::Initial));
            queue.orders.push_back(Order::SetPrefix(0x4000));
        });
        cpu.serve_orders().expect("nothing leaves the core");
        assert_eq!(cpu.prefix, 0x4000);
        cpu.local().with_queue(|queue| {
            assert!(queue.is_empty(), "the emergency signal is gone, the orders are done")
        });
        // Busy as long as an order is there, by which the sender waits.
        cpu.local().with_queue(|queue| queue.orders.push_back(Order::Reset(ResetKind::Normal)));
        assert!(matches!(cpu.signal(1, 0, 0), Answer::Busy));
        // A reset of the machine leaves none.
        cpu.reset(ResetKind::Clear);
        assert!(matches!(cpu.signal(1, 0, 0), Answer::Status(STATUS_STOPPED)));
    }
}
