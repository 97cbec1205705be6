#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cloister_fuzz_targets::run("netdev", bytes));
