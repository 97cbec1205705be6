//! x86-64 CPU models by the names that QEMU's users know, with what CPUID leaf 1 says of each: a vCPU starts with it
//! in RDX, so SEV-ES measures it.
//!
//! No features of these models are modelled yet: no core runs x86-64 guests in this version.

use crate::catalogue::CpuModel;

/// Name, family, model, stepping, words.
type Row = (&'static str, u32, u32, u32, &'static str);

/// The models, by name. Versions of a model differ in features, not in these numbers.
const MODELS: &[Row] = &[
    ("EPYC", 23, 1, 2, "AMD EPYC Processor"),
    ("EPYC-Genoa", 25, 17, 0, "AMD EPYC-Genoa Processor"),
    ("EPYC-Genoa-v1", 25, 17, 0, "AMD EPYC-Genoa Processor"),
    ("EPYC-IBPB", 23, 1, 2, "AMD EPYC Processor (with IBPB)"),
    ("EPYC-Milan", 25, 1, 1, "AMD EPYC-Milan Processor"),
    ("EPYC-Milan-v1", 25, 1, 1, "AMD EPYC-Milan Processor"),
    ("EPYC-Milan-v2", 25, 1, 1, "AMD EPYC-Milan-v2 Processor"),
    ("EPYC-Rome", 23, 49, 0, "AMD EPYC-Rome Processor"),
    ("EPYC-Rome-v1", 23, 49, 0, "AMD EPYC-Rome Processor"),
    ("EPYC-Rome-v2", 23, 49, 0, "AMD EPYC-Rome Processor"),
    ("EPYC-Rome-v3", 23, 49, 0, "AMD EPYC-Rome-v3 Processor"),
    ("EPYC-Rome-v4", 23, 49, 0, "AMD EPYC-Rome-v4 Processor (no XSAVES)"),
    ("EPYC-v1", 23, 1, 2, "AMD EPYC Processor"),
    ("EPYC-v2", 23, 1, 2, "AMD EPYC Processor (with IBPB)"),
    ("EPYC-v3", 23, 1, 2, "AMD EPYC Processor"),
    ("EPYC-v4", 23, 1, 2, "AMD EPYC-v4 Processor"),
    ("max", 15, 107, 1, "Enables all features supported by the accelerator"),
    ("qemu64", 15, 107, 1, "QEMU Virtual CPU version 2.5+"),
    ("qemu64-v1", 15, 107, 1, "QEMU Virtual CPU version 2.5+"),
];

/// The model without `-cpu`.
pub const X86_DEFAULT_CPU: &str = "qemu64";

/// Features of CPUID that `-cpu MODEL,NAME=on|off` may name.
const FEATURES: &str = include_str!("x86-features.txt");

/// Every model.
pub(crate) fn models() -> Vec<CpuModel> {
    MODELS.iter().map(|(name, _, _, _, words)| CpuModel::new(name, words, false)).collect()
}

/// CPUID leaf 1, EAX of a model (AMD64 Architecture Programmer's Manual, volume 3, appendix E.3.2).
pub fn x86_cpu_signature(model: &str) -> Option<u32> {
    let (_, family, model, stepping, _) = MODELS.iter().find(|(name, ..)| *name == model)?;
    let base = (*family).min(15);
    Some((family - base) << 20 | (model >> 4) << 16 | base << 8 | (model & 15) << 4 | stepping)
}

/// Every feature that `-cpu MODEL,NAME=on|off` may name.
pub fn x86_feature_names() -> impl Iterator<Item = &'static str> {
    FEATURES.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_the_processors() {
        for (name, signature) in [
            ("EPYC-v4", 0x80_0f12),
            ("EPYC-Rome", 0x83_0f10),
            ("EPYC-Milan", 0xa0_0f11),
            ("EPYC-Genoa", 0xa1_0f10),
            ("qemu64", 0x6_0fb1),
        ] {
            assert_eq!(x86_cpu_signature(name), Some(signature), "{name}");
        }
        assert_eq!(x86_cpu_signature("z14"), None);
        assert!(models().iter().any(|model| model.name == X86_DEFAULT_CPU));
    }
}
