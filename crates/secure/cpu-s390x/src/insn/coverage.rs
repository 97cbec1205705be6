//! Which measured opcodes the core lacks, and why.

use crate::decode;

const MEASURED: &str = include_str!("../../tests/data/opcodes.txt");

/// Key, and the reason.
const MISSING: &[(&str, &str)] = &[
    ("b9:a0", "clp: PCI functions (facility 69) are not offered"),
    ("b9:ab", "essa: collaborative memory management is not offered"),
];

fn code(key: &str) -> u16 {
    let (first, second) = key.split_once(':').unwrap_or((key, "0"));
    let number = |text| u16::from_str_radix(text, 16).unwrap();
    number(first) << 8 | number(second)
}

#[test]
fn every_measured_opcode_has_a_row_or_a_reason() {
    let codes: Vec<u16> = decode::rows().iter().map(|row| row.code).collect();
    let mut missing = Vec::new();
    for line in MEASURED.lines().filter(|line| !line.starts_with('#')) {
        let (key, mnemonic) = line.split_once(' ').unwrap();
        let listed = MISSING.iter().any(|(other, _)| *other == key);
        if codes.contains(&code(key)) == listed {
            missing.push(format!("{key} {mnemonic}: {}", if listed { "has a row now" } else { "missing" }));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Instructions that facilities bring, all of them (SA22-7832, chapter 4, "Facility Indications", and appendix B).
/// POPULATION COUNT has M3 with facility 61.
const BROUGHT: &[(u16, &str)] = &[
    (
        45,
        "aghik agrk ahhhr ahhlr ahik aih alghsik algrk alhhhr alhhlr alhsik alrk alsih alsihn ark brcth chf chhr chlr \
         cih clhf clhhr clhlr clih laa laag laal laalg lan lang lao laog lax laxg lbh lfh lhh llch llhh loc locg locgr \
         locr lpd lpdg ngrk nrk ogrk ork popcnt risbhg risblg sgrk shhhr shhlr slak slgrk slhhhr slhhlr sllk slrk srak \
         srk srlk stch stfh sthh stoc stocg xgrk xrk",
    ),
    (49, "bpp bprp clgt clt lat lfhat lgat llgfat llgtat niai ppa risbgn"),
    (53, "llzrgf locfh locfhr locghi lochhi lochi lzrf lzrg stocfh"),
    (58, "agh bic mg mgh mgrk msc msgc msgrkc msrkc sgh"),
    (61, "mvcrl ncgrk ncrk nngrk nnrk nogrk nork nxgrk nxrk ocgrk ocrk selfhr selgr selr"),
    (66, "rrbm"),
    (78, "crdte"),
    (133, "lgg lgsc llgfsg stgsc"),
    (
        134,
        "vap vcp vcvb vcvbg vcvd vcvdg vdp vlip vlrl vlrlr vmp vmsp vpkz vpsop vrp vsdp vsp vsrp vstrl vstrlr vtp vupkz",
    ),
    (145, "irbm"),
];

#[test]
fn sa22_7832_4_facilities_bring_all_their_instructions() {
    for (facility, expected) in BROUGHT {
        let rows = decode::rows().iter().filter(|row| row.facility == *facility);
        let mut found: Vec<&str> = rows.map(|row| row.mnemonic).collect();
        found.sort_unstable();
        assert_eq!(found.join(" "), *expected, "facility {facility}");
    }
}
