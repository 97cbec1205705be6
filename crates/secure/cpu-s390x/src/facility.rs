//! Which facilities the core implements, and why it lacks the others (SA22-7832, chapter 4, "Facility
//! Indications").
//!
//! What a guest sees is the configuration's choice among these; the Ultravisor's two bits are added where there is
//! an Ultravisor.

/// Facility bits of everything that the core implements.
pub const FACILITIES: &[u16] = &[
    0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 14, 16, 17, 18, 19, 21, 22, 24, 25, 26, 27, 30, 31, 32, 33, 34, 35,
    37, 40, 41, 45, 49, 51, 52, 53, 57, 58, 61, 66, 75, 77, 78, 81, 82, 129, 130, 133, 134, 135, 138, 145,
    146, 148, 152,
];

/// Facility bits that the core never reports, each with its reason.
pub const ABSENT: &[(u16, &str)] = &[
    (6, "there is no ASN-and-LX reuse: no kernel uses address-space numbers"),
    (11, "there is no topology: STSI 15 answers condition code 3"),
    (12, "no adjunct processors"),
    (15, "no adjunct processors"),
    (20, "no hexadecimal floating point"),
    (23, "no hexadecimal floating point"),
    (28, "there is no clock steering: PTFF is not implemented"),
    (36, "no monitor-event counting"),
    (42, "no decimal floating point"),
    (43, "no decimal floating point"),
    (44, "PFPO converts to bases that are not there"),
    (47, "CMPSC is not implemented"),
    (48, "no decimal floating point"),
    (50, "no transactions"),
    (54, "CMPSC is not implemented"),
    (65, "no adjunct processors"),
    (67, "no CPU-measurement counters"),
    (68, "no CPU-measurement sampling"),
    (69, "no PCI functions"),
    (71, "no PCI functions"),
    (72, "adapter-interruption suppression comes with PCI functions"),
    (73, "no transactions"),
    (74, "STHYI is not implemented"),
    (76, "there are no wrapping keys: PCKMO and the functions with encrypted keys are not implemented"),
    (80, "no decimal floating point"),
    (131, "the TEID does not tell all causes of protection apart, and there is no side-effect access"),
    (139, "the TOD clock has one epoch"),
    (140, "the block of a service call has at most a page"),
    (142, "no CPU-measurement counters"),
    (144, "TPEI is not implemented"),
    (149, "MVPG sets no key"),
    (150, "SORTL is not implemented"),
    (151, "DFLTCC is not implemented"),
    (155, "KDSA and the scalar multiplications of PCC are not implemented"),
    (158, "is the Ultravisor's to add"),
    (161, "is the Ultravisor's to add"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Entry;
    use crate::{CoreExit, RunLimit, System, decode};
    use cloister_arch::s390x::{Exit, Psw, RunState, TimeMode, VmConfig, facility};
    use cloister_memory::Storage;
    use std::sync::Arc;

    /// Facilities without an instruction of their own, and where they show.
    const EFFECTS: &[(u16, &str)] = &[
        (0, "the instructions that ESA/390 and z/Architecture share"),
        (1, "z/Architecture is installed"),
        (2, "z/Architecture is active"),
        (4, "IDTE flushes everything, selected segments included"),
        (5, "as 4, for regions"),
        (9, "SIGP order 0x15"),
        (10, "MR and MC of SSKE and PFMF"),
        (13, "R3 of IPTE"),
        (14, "NQ of SSKE and PFMF, which may be quiescing all the same"),
        (16, "PKU, UNPKU, TROO and so on, which are always there"),
        (19, "long displacements cost nothing"),
        (24, "test-character comparison can be switched off in M3 of TROO and so on"),
        (30, "M3 of the Unicode conversions"),
        (33, "CSST of 128 bits"),
        (51, "M4 of IPTE and IDTE"),
        (52, "NI, OI, XI are interlocked"),
        (75, "bits 52 and 53 of the TEID"),
        (81, "PPA 15: instructions are always in order"),
        (82, "PPA 12 and 13: there is no branch prediction to block"),
        (130, "bit 55 of page-table entries"),
        (138, "CPUs begin in z/Architecture mode"),
        (152, "IOM, NV and NZ of the packed-decimal vector instructions"),
    ];

    fn text(entry: &Entry) -> [u8; 6] {
        let [first, low] = entry.code.to_be_bytes();
        let mut bytes = [first, 0, 0, 0, 0, 0];
        match first {
            0xe3 | 0xe6 | 0xe7 | 0xeb | 0xec | 0xed => bytes[5] = low,
            _ => bytes[1] = low,
        }
        bytes
    }

    #[test]
    fn a_facility_is_either_implemented_or_has_a_reason() {
        for (bit, reason) in ABSENT {
            assert!(!FACILITIES.contains(bit) && !reason.is_empty(), "{bit}");
        }
        assert!(FACILITIES.is_sorted() && ABSENT.is_sorted());
        for entry in decode::rows() {
            let known =
                FACILITIES.contains(&entry.facility) || ABSENT.iter().any(|(bit, _)| *bit == entry.facility);
            assert!(known, "{} needs facility {}, of which nothing is said", entry.mnemonic, entry.facility);
        }
    }

    #[test]
    fn every_reported_facility_has_an_instruction_or_an_effect() {
        for bit in FACILITIES {
            let instructions = decode::rows().iter().any(|entry| *bit != 0 && entry.facility == *bit);
            let effect = EFFECTS.iter().any(|(other, _)| other == bit);
            assert!(instructions || effect, "facility {bit} has neither an instruction nor an effect");
        }
    }

    #[test]
    fn an_opcode_whose_facility_is_off_is_an_operation_exception() {
        let storage = Arc::new(Storage::new(1 << 20).unwrap());
        let ram = storage.ram();
        ram.write_u64_be(0x1d0, 0x0002_0001_8000_0000);
        let rows: Vec<_> = decode::rows().iter().filter(|entry| entry.facility != 0).collect();
        assert!(rows.len() > 250);
        for (n, entry) in rows.iter().enumerate() {
            ram.copy_in(0x2000 + 8 * n, &text(entry));
        }
        let mut facilities = [0; 4];
        facility::set(&mut facilities, 1, true);
        let config = VmConfig {
            memory_bytes: storage.size(),
            max_cpus: 1,
            facilities,
            cpu_id: 0,
            time: TimeMode::Virtual { shift: 0 },
            tod_start: Some(1 << 60),
            name: "facilities".into(),
            uuid: [0; 16],
        };
        let system = System::new(config, Arc::clone(&storage)).unwrap();
        for (n, entry) in rows.iter().enumerate() {
            ram.write_u32_be(0x8c, 0);
            let mut state = system.state(0).unwrap();
            state.psw = Psw { mask: Psw::EA | Psw::BA, addr: 0x2000 + 8 * n as u64 };
            state.run_state = RunState::Operating;
            system.set_state(0, &state).unwrap();
            let exit = system.run(0, RunLimit { instructions: Some(10), block: false }, None).unwrap();
            assert!(matches!(exit, CoreExit::Guest(Exit::DisabledWait(_))), "{}: {exit:?}", entry.mnemonic);
            assert_eq!(ram.read_u32_be(0x8c) & 0xffff, 1, "{}", entry.mnemonic);
        }
    }
}
