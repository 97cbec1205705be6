//! The rendezvous between real threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloister_cpu::{Flush, Rendezvous, request};

#[test]
fn a_quiescent_cpu_is_not_waited_for_and_finds_the_flush_when_it_enters() {
    let rendezvous = Rendezvous::new(2);
    let cpu = rendezvous.cpu(1).unwrap();
    rendezvous.flush(0b10, Flush::Page(7));
    rendezvous.flush(0b10, Flush::Page(7));
    rendezvous.flush(0b10, Flush::Page(8));
    assert_eq!(cpu.enter(), request::FLUSH);
    let mut flushed = Vec::new();
    cpu.acknowledge(|flush| flushed.push(flush));
    assert_eq!(flushed, [Flush::Page(7), Flush::Page(8)]);
    assert_eq!(cpu.check(), 0);
    cpu.acknowledge(|flush| flushed.push(flush));
    assert_eq!(flushed.len(), 2, "nothing twice");
}

#[test]
fn more_pages_than_fit_become_a_flush_of_everything() {
    let rendezvous = Rendezvous::new(1);
    (0..100).for_each(|page| rendezvous.flush(1, Flush::Page(page)));
    let mut flushed = Vec::new();
    rendezvous.cpu(0).unwrap().acknowledge(|flush| flushed.push(flush));
    assert_eq!(flushed, [Flush::All]);
}

#[test]
fn cpus_from_63_on_share_the_last_bit() {
    let rendezvous = Rendezvous::new(70);
    rendezvous.flush(1 << 63 | 1 << 2, Flush::All);
    for number in 0..70 {
        let pending = rendezvous.cpu(number).unwrap().check() & request::FLUSH != 0;
        assert_eq!(pending, number == 2 || number >= 63, "{number}");
    }
    assert!(rendezvous.cpu(70).is_none());
    rendezvous.request(70, request::KICK);
}

#[test]
fn requests_are_taken_one_by_one_and_a_flush_is_not() {
    let rendezvous = Rendezvous::new(1);
    let cpu = rendezvous.cpu(0).unwrap();
    rendezvous.request_all(request::KICK | request::STOP | request::FLUSH | request::FIRST_FREE);
    assert_eq!(cpu.take(request::KICK | request::INTERRUPT), request::KICK);
    assert_eq!(cpu.take(u32::MAX), request::STOP | request::FIRST_FREE);
    assert_eq!(cpu.check(), request::FLUSH);
}

#[test]
fn a_waiting_cpu_wakes_for_a_request_and_at_its_deadline_but_not_for_a_flush() {
    let rendezvous = Rendezvous::new(1);
    let cpu = rendezvous.cpu(0).unwrap();
    cpu.enter();
    let begin = Instant::now();
    assert_eq!(cpu.wait(Some(Duration::from_millis(20))), 0);
    assert!(begin.elapsed() >= Duration::from_millis(20));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(10));
            rendezvous.flush(1, Flush::All);
            std::thread::sleep(Duration::from_millis(10));
            rendezvous.request(0, request::INTERRUPT);
        });
        assert_eq!(cpu.wait(None), request::INTERRUPT | request::FLUSH);
    });
    assert_eq!(cpu.wait(None), request::INTERRUPT | request::FLUSH, "a request not taken stays");
}

#[test]
fn cpus_that_flush_each_other_do_not_wait_for_ever() {
    const CPUS: u32 = 12;
    let rendezvous = Rendezvous::new(CPUS);
    let served = Arc::new(AtomicU64::new(0));
    std::thread::scope(|scope| {
        for number in 0..CPUS {
            let (cpu, served) = (rendezvous.cpu(number).unwrap(), served.clone());
            scope.spawn(move || {
                cpu.enter();
                for round in 0..300 {
                    cpu.flush(u64::MAX, Flush::Page(round));
                    assert_ne!(cpu.check() & request::FLUSH, 0, "its own flush is pending");
                    cpu.acknowledge(|_| {
                        served.fetch_add(1, Ordering::Relaxed);
                    });
                }
                cpu.leave();
            });
        }
    });
    assert!(served.load(Ordering::Relaxed) >= u64::from(CPUS) * 300);
}
