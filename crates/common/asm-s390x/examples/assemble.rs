//! Assembles one file to a flat image: `cargo run -p cloister-asm-s390x --example assemble -- guests/s390x/demo.s demo.bin`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [source, image] = arguments.as_slice() else {
        return Err("expected two arguments: SOURCE IMAGE".into());
    };
    let object = cloister_asm_s390x::assemble_file(source)?;
    std::fs::write(image, &object.bytes)?;
    println!("{} bytes from {:#x}", object.bytes.len(), object.origin);
    Ok(())
}
