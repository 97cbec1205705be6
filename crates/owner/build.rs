//! Assembles the two boot stages of Secure Execution images from `guests/s390x`.

use std::error::Error;
use std::path::Path;

/// Stage A ends with 24 bytes of arguments, stage B with 64; the image tool appends the filled ones.
const STAGES: [(&str, usize); 2] = [("stage-a", 24), ("stage-b", 64)];

fn main() -> Result<(), Box<dyn Error>> {
    let sources = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("../../guests/s390x");
    let output = std::env::var("OUT_DIR")?;
    for (name, arguments) in STAGES {
        let object = cloister_asm_s390x::assemble_file(sources.join(format!("{name}.s")))?;
        for source in &object.sources {
            println!("cargo:rerun-if-changed={}", source.display());
        }
        let body =
            object.bytes.len().checked_sub(arguments).ok_or("the stage has no room for its arguments")?;
        if object.offset_of("arguments") != Some(body) || object.bytes[body..].iter().any(|&byte| byte != 0) {
            return Err(format!("{name}.s must end with `arguments:` and {arguments} zero bytes").into());
        }
        std::fs::write(Path::new(&output).join(format!("{name}.bin")), &object.bytes[..body])?;
    }
    println!("cargo:rerun-if-changed=build.rs");
    Ok(())
}
