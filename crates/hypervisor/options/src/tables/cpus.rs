//! CPU models of IBM Z by the names that QEMU's users know.
//!
//! Which facilities a model has is the machine's business; here are only the names that the command line accepts.

use crate::catalogue::CpuModel;

/// The models with their machines, oldest first.
const MODELS: &[(&str, &str)] = &[
    ("z900", "IBM zSeries 900 GA1"),
    ("z900.2", "IBM zSeries 900 GA2"),
    ("z900.3", "IBM zSeries 900 GA3"),
    ("z800", "IBM zSeries 800 GA1"),
    ("z990", "IBM zSeries 990 GA1"),
    ("z990.2", "IBM zSeries 990 GA2"),
    ("z990.3", "IBM zSeries 990 GA3"),
    ("z890", "IBM zSeries 880 GA1"),
    ("z990.4", "IBM zSeries 990 GA4"),
    ("z890.2", "IBM zSeries 880 GA2"),
    ("z990.5", "IBM zSeries 990 GA5"),
    ("z890.3", "IBM zSeries 880 GA3"),
    ("z9EC", "IBM System z9 EC GA1"),
    ("z9EC.2", "IBM System z9 EC GA2"),
    ("z9BC", "IBM System z9 BC GA1"),
    ("z9EC.3", "IBM System z9 EC GA3"),
    ("z9BC.2", "IBM System z9 BC GA2"),
    ("z10EC", "IBM System z10 EC GA1"),
    ("z10EC.2", "IBM System z10 EC GA2"),
    ("z10BC", "IBM System z10 BC GA1"),
    ("z10EC.3", "IBM System z10 EC GA3"),
    ("z10BC.2", "IBM System z10 BC GA2"),
    ("z196", "IBM zEnterprise 196 GA1"),
    ("z196.2", "IBM zEnterprise 196 GA2"),
    ("z114", "IBM zEnterprise 114 GA1"),
    ("zEC12", "IBM zEnterprise EC12 GA1"),
    ("zEC12.2", "IBM zEnterprise EC12 GA2"),
    ("zBC12", "IBM zEnterprise BC12 GA1"),
    ("z13", "IBM z13 GA1"),
    ("z13.2", "IBM z13 GA2"),
    ("z13s", "IBM z13s GA1"),
    ("z14", "IBM z14 GA1"),
    ("z14.2", "IBM z14 GA2"),
    ("z14ZR1", "IBM z14 Model ZR1 GA1"),
    ("gen15a", "IBM z15 T01 GA1"),
    ("gen15b", "IBM z15 T02 GA1"),
    ("gen16a", "IBM 3931 GA1"),
    ("gen16b", "IBM 3932 GA1"),
];

const FEATURES: &str = include_str!("s390x-features.txt");

/// Every model: the two that follow the program, then each machine with its minimal `-base` form.
pub(crate) fn models() -> Vec<CpuModel> {
    let mut out = vec![
        CpuModel::new("qemu", "What Cloister implements, under QEMU's name for it", false),
        CpuModel::new("max", "Every feature that the accelerator supports", false),
    ];
    for (name, description) in MODELS {
        out.push(CpuModel::new(&format!("{name}-base"), description, true));
        out.push(CpuModel::new(name, description, false));
    }
    out
}

/// Every feature and feature group that `-cpu MODEL,NAME=on|off` may name.
pub fn feature_names() -> impl Iterator<Item = &'static str> {
    FEATURES.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace)
}
