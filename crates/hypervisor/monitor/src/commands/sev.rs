//! AMD SEV: the platform, the launch, the owner's secret, the firmware's report. Base64 is decoded behind the machine,
//! in the order in which QEMU looks at arguments.

use crate::call::Call;
use crate::table::{Command, Reply};
use crate::types::{Enum, Struct, Type, Union, member, optional};
use cloister_cgs::encode_base64 as encode;
use cloister_options::Target;
use serde_json::json;

const X86: &[Target] = &[Target::X86_64];

const STATE: Enum = Enum {
    name: "SevState",
    values: &["uninit", "launch-update", "launch-secret", "running", "send-update", "receive-update"],
};
const KIND: Enum = Enum { name: "SevGuestType", values: &["sev", "sev-snp"] };
const GUEST: Struct = Struct::new(
    "SevGuestInfo",
    &[member("policy", Type::Unsigned(32)), member("handle", Type::Unsigned(32))],
);
const SNP_GUEST: Struct = Struct::new("SevSnpGuestInfo", &[member("snp-policy", Type::Unsigned(64))]);
const INFO: Union = Union {
    name: "SevInfo",
    base: &[
        member("enabled", Type::Bool),
        member("api-major", Type::Unsigned(8)),
        member("api-minor", Type::Unsigned(8)),
        member("build-id", Type::Unsigned(8)),
        member("state", Type::Enum(&STATE)),
        member("sev-type", Type::Enum(&KIND)),
    ],
    tag: "sev-type",
    variants: &[("sev", &GUEST), ("sev-snp", &SNP_GUEST)],
};
const MEASUREMENT: Struct = Struct::new("SevLaunchMeasureInfo", &[member("data", Type::Str)]);
const CAPABILITIES: Struct = Struct::new(
    "SevCapability",
    &[
        member("pdh", Type::Str),
        member("cert-chain", Type::Str),
        member("cpu0-id", Type::Str),
        member("cbitpos", Type::Int),
        member("reduced-phys-bits", Type::Int),
    ],
);
const REPORT: Struct = Struct::new("SevAttestationReport", &[member("data", Type::Str)]);

pub(crate) const ROWS: &[Command] = &[
    Command::new("query-sev", "The guest's launch under AMD SEV; `enabled` is false without.", query_sev)
        .returns(Type::Union(&INFO))
        .only_for(X86),
    Command::new(
        "query-sev-launch-measure",
        "The measurement of the launch: MAC and nonce in base64, from the state launch-secret on.",
        |call| Ok(json!({ "data": encode(&call.machine().sev().launch_measure()?) })),
    )
    .returns(Type::Struct(&MEASUREMENT))
    .only_for(X86),
    Command::new(
        "query-sev-capabilities",
        "The platform's certificates, for an owner who makes a session. Works with the machine `none` too.",
        query_capabilities,
    )
    .returns(Type::Struct(&CAPABILITIES))
    .only_for(X86),
    Command::new(
        "sev-inject-launch-secret",
        "Puts the owner's secret into the guest before its first instruction; without `gpa` where the firmware image \
         wants it.",
        inject,
    )
    .takes(&[
        member("packet-header", Type::Str),
        member("secret", Type::Str),
        optional("gpa", Type::Unsigned(64)),
    ])
    .only_for(X86),
    Command::new("query-sev-attestation-report", "The firmware's signed report for a nonce of 16 bytes.", |call| {
        let report = call.machine().sev().attestation_report(call.required("mnonce"))?;
        Ok(json!({ "data": encode(&report) }))
    })
    .takes(&[member("mnonce", Type::Str)])
    .returns(Type::Struct(&REPORT))
    .only_for(X86),
];

fn query_sev(call: &Call<'_>) -> Reply {
    let info = call.machine().sev().info();
    let enabled = info.is_some();
    let info = info.unwrap_or(cloister_control::SevInfo {
        api_major: 0,
        api_minor: 0,
        build_id: 0,
        state: "uninit",
        policy: 0,
        handle: 0,
    });
    Ok(json!({
        "enabled": enabled,
        "api-major": info.api_major,
        "api-minor": info.api_minor,
        "build-id": info.build_id,
        "state": info.state,
        "sev-type": "sev",
        "policy": info.policy,
        "handle": info.handle,
    }))
}

fn query_capabilities(call: &Call<'_>) -> Reply {
    let platform = call.machine().sev().capabilities()?;
    Ok(json!({
        "pdh": encode(&platform.pdh),
        "cert-chain": encode(&platform.cert_chain),
        "cpu0-id": encode(&platform.cpu0_id),
        "cbitpos": platform.cbitpos,
        "reduced-phys-bits": platform.reduced_phys_bits,
    }))
}

fn inject(call: &Call<'_>) -> Reply {
    let address = call.arguments().get("gpa").and_then(serde_json::Value::as_u64);
    let (header, secret) = (call.required("packet-header"), call.required("secret"));
    call.machine().sev().inject_launch_secret(header, secret, address)?;
    Ok(json!({}))
}
