//! The machine and its object `sev-guest` in front of the door, as `-accel kvm` puts them.

use super::*;
use cloister_control::SevControl;
use cloister_machines::Outlets;
use cloister_machines::q35::Q35;
use cloister_options::{CommandLine, Invocation, Outcome, Target};

fn line(object: &str) -> CommandLine {
    let invocation = Invocation { program: "qemu-system-x86_64".into(), target: None };
    let args = format!(
        "-machine q35,confidential-guest-support=sev0 -accel kvm -m 64M -smp 2 -nodefaults -S \
         -object sev-guest,id=sev0,cbitpos=51,reduced-phys-bits=1,{object}"
    );
    let args: Vec<_> = args.split_whitespace().map(str::to_owned).collect();
    match cloister_options::parse(&invocation, &cloister_cgs::catalogue(Target::X86_64), &args) {
        Ok(Outcome::Run(line)) => *line,
        other => panic!("{other:?}"),
    }
}

fn machine(fake: FakeKernel, object: &str) -> (Arc<KvmDoor<FakeKernel>>, Result<Q35, String>) {
    let door = door(fake);
    let upper = Arc::clone(&door) as Arc<dyn Door>;
    let made = Q35::with_outlets(&line(object), upper, Outlets::default());
    (door, made.map_err(|why| why.to_string()))
}

#[test]
fn the_object_launches_a_machine_over_kvm() {
    for (object, es, init) in [
        ("policy=1", false, "KVM_SEV_INIT"),
        ("policy=5", true, "KVM_SEV_ES_INIT"),
        ("policy=1,legacy-vm-type=off", false, "KVM_SEV_INIT2"),
        ("policy=5,legacy-vm-type=off", true, "KVM_SEV_INIT2"),
    ] {
        let (door, machine) = machine(willing(), object);
        let machine = machine.unwrap();
        let info = machine.info().unwrap();
        assert_eq!((info.state, info.handle, info.api_minor), ("launch-secret", 7, 55));
        assert_eq!(machine.launch_measure().unwrap().len(), 48);
        assert_eq!(machine.capabilities().unwrap().cert_chain.len(), 6252);
        // 52 and 16 bytes in base64.
        let header = format!("{}AA==", "A".repeat(68));
        machine.inject_launch_secret(&header, "AAAAAAAAAAAAAAAAAAAAAA==", Some(0x1000)).unwrap();
        let mut expected = vec![init, "KVM_CREATE_VCPU", "KVM_CREATE_VCPU", "KVM_SEV_LAUNCH_START"];
        expected.push("KVM_SEV_LAUNCH_UPDATE_DATA");
        expected.extend(es.then_some("KVM_SEV_LAUNCH_UPDATE_VMSA"));
        expected.extend(["KVM_SEV_LAUNCH_MEASURE", "KVM_SEV_LAUNCH_MEASURE", "KVM_SEV_LAUNCH_SECRET"]);
        let mut made = names(&door);
        made.retain(|name| name.starts_with("KVM_SEV_") || *name == "KVM_CREATE_VCPU");
        assert_eq!(made, expected, "{object}");
    }
}

#[test]
fn what_the_firmware_refuses_ends_the_machine_in_qemu_s_words() {
    let refused = |name: &'static str, fw_error| {
        let fake = willing().answers(name, move |payload| status(payload, GUEST.1, fw_error));
        machine(fake, "policy=5").1.err().unwrap()
    };
    let words = refused("KVM_SEV_LAUNCH_START", 7);
    assert!(words.contains("LAUNCH_START ret=-5 fw_error=7 'Policy is not allowed'"), "{words}");
    let words = refused("KVM_SEV_ES_INIT", 0x13);
    assert!(words.contains("failed to initialize ret=-5 fw_error=19 'Hardware error'"), "{words}");
    let fake = willing().fails("KVM_MEMORY_ENCRYPT_REG_REGION", Errno::NO_MEMORY);
    let words = machine(fake, "policy=1").1.err().unwrap();
    assert!(words.contains("KVM_MEMORY_ENCRYPT_REG_REGION failed: ENOMEM"), "{words}");
}
