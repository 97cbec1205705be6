//! Assembles the demo guest and the guest tool from `guests/s390x`.

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let source = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../guests/s390x/demo.s");
    let guest = cloister_asm_s390x::assemble_file(source)?;
    for source in &guest.sources {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    // Where host and guest meet (the demo's part of the handshake).
    let symbol = |name| guest.symbol(name).ok_or(format!("demo.s defines no {name}"));
    for name in
        ["SHARED", "HOST_LOOKED", "HOST_GO_ON", "HOST_ATTEST", "HOST_SECRET", "ANSWERED_BLOCK", "ANSWERED"]
    {
        println!("cargo:rustc-env=DEMO_{name}={}", symbol(name)?);
    }
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("demo.bin"), &guest.bytes)?;
    guest_tool()?;
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}

/// The guest tool's code; the ELF header that goes before it is written by `pv/guest_tool.rs`.
fn guest_tool() -> Result<(), Box<dyn Error>> {
    let source = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../guests/s390x/uvdevice.s");
    let tool = cloister_asm_s390x::assemble_file(source)?;
    for source in &tool.sources {
        println!("cargo:rerun-if-changed={}", source.display());
    }
    for (name, symbol) in [("CODE", "CODE"), ("DATA", "DATA"), ("DATA_SIZE", "DATA_SIZE"), ("START", "start")]
    {
        let value = tool.symbol(symbol).ok_or(format!("uvdevice.s defines no {symbol}"))?;
        println!("cargo:rustc-env=GUEST_TOOL_{name}={value}");
    }
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("uvdevice.bin"), &tool.bytes)?;
    Ok(())
}
