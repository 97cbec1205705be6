//! Every fuzz target over its seeds, over altered seeds and over random bytes.

use cloister_fuzz_targets::TARGETS;
use std::path::{Path, PathBuf};

const ROUNDS: u32 = 1500;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// splitmix64: the same inputs in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn alter(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(6) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.next() as u8),
                2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                3 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                4 => bytes.extend((0..self.below(40)).map(|_| 0)),
                _ if !bytes.is_empty() => bytes[at] = self.next() as u8,
                _ => bytes.push(self.next() as u8),
            }
        }
    }
}

#[test]
fn every_target_survives_seeds_altered_seeds_and_random_bytes() {
    for (number, (name, run)) in TARGETS.iter().enumerate() {
        let folder = fuzz_folder().join("corpus").join(name);
        let mut seeds: Vec<PathBuf> = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{name} has no seed");
        let seeds: Vec<Vec<u8>> = seeds.iter().map(|seed| std::fs::read(seed).unwrap()).collect();
        for seed in &seeds {
            run(seed);
        }
        let mut random = Random(number as u64);
        for _ in 0..ROUNDS {
            let mut input = seeds[random.below(seeds.len())].clone();
            random.alter(&mut input);
            run(&input);
            let input: Vec<u8> = (0..random.below(300)).map(|_| random.next() as u8).collect();
            run(&input);
        }
    }
}

#[test]
fn every_target_has_its_file_and_its_entry() {
    let manifest = std::fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        let source = std::fs::read_to_string(fuzz_folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "fuzz_targets/{name}.rs runs another target");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no {name}");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), TARGETS.len());
}
