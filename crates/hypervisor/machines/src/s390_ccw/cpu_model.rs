//! From `-cpu MODEL,FEATURE=on|off` to a facility list.
//!
//! A model is what its generation has, cut to what the core implements: STFLE, STSI and SCLP report what is
//! implemented and nothing else.

use crate::MachineError;
use cloister_options::CpuSpec;
use cloister_platform::arch::s390x::facility;

/// Facilities of the generations that are asked for by bit number (SA22-7832, chapter 4, "Facility
/// Indications"). Each generation has all of the earlier ones.
const Z900: &[u16] = &[0, 1, 2];
const Z990: &[u16] = &[3, 4, 7, 16, 17, 18, 19];
const Z9: &[u16] = &[9, 21, 22, 23, 24, 25, 27, 30];
const Z10: &[u16] = &[8, 10, 11, 26, 28, 31, 32, 33, 34, 35, 41, 42, 43];
const Z196: &[u16] = &[13, 14, 37, 40, 44, 45, 47, 76, 77];
const ZEC12: &[u16] = &[48, 49, 50, 51, 52, 57, 66, 73, 78];
const Z13: &[u16] = &[53, 54, 55, 60, 67, 68, 74, 75, 80, 81, 82, 129, 131, 139];
const Z14: &[u16] = &[58, 59, 130, 132, 133, 134, 135, 144, 146, 147, 150];
const Z15: &[u16] = &[61, 148, 149, 151, 152, 155, 158, 161];
/// Of every machine since z/Architecture-only operation exists.
const ALWAYS: &[u16] = &[138, 140];

/// Names of features in QEMU's CPU models, by facility bit.
const NAMES: &[(&str, u16)] = &[
    ("esan3", 0),
    ("zarch", 1),
    ("dateh", 3),
    ("idtes", 4),
    ("idter", 5),
    ("csske", 10),
    ("ipter", 13),
    ("nonqks", 14),
    ("edat", 8),
    ("edat2", 78),
    ("ctop", 11),
    ("gen13ptff", 139),
    ("stfle", 7),
    ("ldisp", 18),
    ("ldisphp", 19),
    ("msa-base", 17),
    ("msa4-base", 77),
    ("msa5-base", 57),
    ("msa8-base", 146),
    ("etf2", 16),
    ("etf2eh", 24),
    ("etf3", 22),
    ("etf3eh", 30),
    ("eimm", 21),
    ("stckf", 25),
    ("mvcos", 27),
    ("ectg", 31),
    ("csst", 32),
    ("csst2", 33),
    ("gen10-gie", 34),
    ("ginste", 34),
    ("exrl", 35),
    ("fpe", 37),
    ("sprogp", 40),
    ("fpseh", 41),
    ("dfp", 42),
    ("stfle45", 45),
    ("stfle49", 49),
    ("ltlbc", 51),
    ("iacc2", 52),
    ("stfle53", 53),
    ("minste2", 58),
    ("minste3", 61),
    ("aefsi", 75),
    ("te", 73),
    ("ppa15", 81),
    ("bpb", 82),
    ("vx", 129),
    ("iep", 130),
    ("sea_esop2", 131),
    ("vxeh", 135),
    ("gs", 133),
    ("vxpd", 134),
    ("els", 140),
    ("irbm", 145),
    ("vxeh2", 148),
    ("vxpdeh", 152),
    ("unpack", facility::SECURE_UNPACK),
];

/// The facility list for a CPU model; `available` is what the platform offers.
pub(super) fn facilities(cpu: Option<&CpuSpec>, available: &[u64; 4]) -> Result<[u64; 4], MachineError> {
    let model = cpu.map_or("qemu", |cpu| cpu.model.as_str());
    let mut list = match model {
        "qemu" | "max" | "host" => *available,
        other => generation(other, available)?,
    };
    for (name, on) in cpu.iter().flat_map(|cpu| &cpu.features) {
        let Some(&(_, bit)) = NAMES.iter().find(|(known, _)| known == name) else {
            if *on {
                return Err(unavailable(name));
            }
            continue;
        };
        if *on && !facility::test(available, bit) {
            return Err(unavailable(name));
        }
        facility::set(&mut list, bit, *on);
    }
    // A clear guest can ask to be unpacked and cannot call the Ultravisor; inside protection it is the other
    // way round, and that is the secure world's to show.
    facility::set(&mut list, facility::ULTRAVISOR_CALL, false);
    Ok(list)
}

fn generation(model: &str, available: &[u64; 4]) -> Result<[u64; 4], MachineError> {
    let name = model.strip_suffix("-base").unwrap_or(model);
    let name = name.split('.').next().unwrap_or(name);
    let generations: &[&[u16]] = &[Z900, Z990, Z9, Z10, Z196, ZEC12, Z13, Z14, Z15];
    let level = match name {
        "z900" | "z800" => 1,
        "z990" | "z890" => 2,
        "z9EC" | "z9BC" => 3,
        "z10EC" | "z10BC" => 4,
        "z196" | "z114" => 5,
        "zEC12" | "zBC12" => 6,
        "z13" | "z13s" => 7,
        "z14" | "z14ZR1" => 8,
        "gen15a" | "gen15b" | "z15" | "gen16a" | "gen16b" | "gen17a" => 9,
        _ => return Err(MachineError::CpuModel(format!("unable to find CPU model '{model}'"))),
    };
    let mut list = [0; 4];
    for &bit in generations[..level].iter().copied().chain([ALWAYS]).flatten() {
        if facility::test(available, bit) {
            facility::set(&mut list, bit, true);
        }
    }
    // Conditional SSKE and branch-prediction blocking ended with the z14.
    if level > 8 {
        [10, 82].iter().for_each(|bit| facility::set(&mut list, *bit, false));
    }
    Ok(list)
}

fn unavailable(feature: &str) -> MachineError {
    MachineError::CpuModel(format!(
        "Some features requested in the CPU model are not available in the configuration: {feature}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(model: &str, features: &[(&str, bool)]) -> CpuSpec {
        CpuSpec {
            model: model.into(),
            features: features.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect(),
        }
    }

    fn available(bits: &[u16]) -> [u64; 4] {
        let mut list = [0; 4];
        for &bit in bits {
            facility::set(&mut list, bit, true);
        }
        list
    }

    #[test]
    fn a_model_has_what_its_generation_has_and_the_core_implements() {
        let core = available(&[0, 1, 2, 18, 45, 58, 158, 161]);
        let z196 = facilities(Some(&spec("z196-base", &[])), &core).unwrap();
        assert!(facility::test(&z196, 45) && !facility::test(&z196, 58) && !facility::test(&z196, 161));
        let z15 = facilities(Some(&spec("gen15a", &[])), &core).unwrap();
        assert!(facility::test(&z15, 58) && facility::test(&z15, 161) && !facility::test(&z15, 158));
        let core = available(&[10, 13, 14, 133, 145]);
        let bits = |model| {
            let list = facilities(Some(&spec(model, &[])), &core).unwrap();
            [10, 13, 14, 133, 145].map(|bit| facility::test(&list, bit))
        };
        // As QEMU 7.2 expands them.
        assert_eq!(bits("z9EC"), [false; 5]);
        assert_eq!(bits("z10EC"), [true, false, false, false, false]);
        assert_eq!(bits("zEC12"), [true, true, true, false, false]);
        assert_eq!(bits("z14"), [true, true, true, true, false]);
        assert_eq!(bits("gen15a"), [false, true, true, true, false]);
    }

    #[test]
    fn a_clear_guest_has_unpack_and_never_the_ultravisor_call() {
        let core = available(&[0, 1, 158, 161]);
        let off = facilities(Some(&spec("max", &[("unpack", false)])), &core).unwrap();
        assert!(!facility::test(&off, 158) && !facility::test(&off, 161));
        let on = facilities(None, &core).unwrap();
        assert!(!facility::test(&on, 158) && facility::test(&on, 161));
    }

    #[test]
    fn a_feature_that_is_not_there_is_named() {
        let core = available(&[0, 1]);
        let error = facilities(Some(&spec("max", &[("unpack", true)])), &core).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Some features requested in the CPU model are not available in the configuration: unpack"
        );
    }
}
