//! Attestation and secrets from the owner to a protected guest and back, with what must be refused on the way.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use cloister_crypto::{P521Public, P521Secret, Secret, SeededEntropy, sha512};
use cloister_end_to_end::inprocess::proxy::{Called, INPUT, OUTPUT, OUTPUT_SIZE, attest_call};
use cloister_end_to_end::inprocess::{Model, Proxy, guest_program};
use cloister_formats::s390x::arcb::ArcbFlags;
use cloister_formats::s390x::asrcb::{Asrcb, SecretType};
use cloister_formats::s390x::exchange::ExchangeResponse;
use cloister_formats::s390x::se_header::SeHeader;
use cloister_formats::s390x::secret_list::SecretList;
use cloister_formats::s390x::uvcb::*;
use cloister_machines::End;
use cloister_owner::attest::{self, Verified};
use cloister_owner::image::Settings;
use cloister_owner::secret::{
    self, ExtensionSecret, GuestSecret, KeyType, Request, RetrievableKey, SecretName, UserData,
};

const PASSPHRASE: &[u8] = b"CLOISTER-TEST-PASSPHRASE-NOBODY-ELSE-KNOWS";

/// A protected guest that runs, and its owner.
struct Scene {
    model: Model,
    proxy: Proxy,
    header: SeHeader,
    entropy: SeededEntropy,
}

impl Scene {
    fn new(seed: &str) -> Self {
        let model = Model::new(seed);
        let image = model.image(&guest_program("proxy"), None, "", &Settings::default());
        let image = model.write("proxy.img", &image);
        let header = attest::read_header(&image).unwrap();
        let proxy = Proxy::start(model.platform(), &image);
        Self { model, proxy, header, entropy: SeededEntropy::new(b"owner") }
    }

    fn host_key(&self) -> P521Public {
        self.model.platform().s390x().host.secret.public()
    }

    /// A request for attestation and its protection key.
    fn arcb(&mut self, flags: u64) -> (Vec<u8>, Secret<32>) {
        let key = self.host_key();
        let (arcb, arpk) = attest::request(&[key], ArcbFlags(flags), &mut self.entropy).unwrap();
        (arcb.encode(), arpk)
    }

    /// Has the guest attested and gives the answer as it would travel.
    fn attest(&self, arcb: &[u8], user_data: &[u8]) -> ExchangeResponse {
        self.proxy.attest(arcb, user_data).unwrap()
    }

    fn request(&mut self, secret: GuestSecret, change: impl FnOnce(&mut Request)) -> Asrcb {
        let mut request = Request {
            secret,
            extension: ExtensionSecret::None,
            config_uid: None,
            disable_dump: false,
            user_data: UserData::None,
        };
        change(&mut request);
        secret::request(&[self.host_key()], &self.header, &request, &mut self.entropy).unwrap()
    }

    fn add(&self, request: &Asrcb) -> Called {
        self.proxy.call(&AddSecret { addr: INPUT }.encode(), &request.encode())
    }

    fn verify(&self, response: &ExchangeResponse, arpk: &Secret<32>) -> Option<Verified> {
        attest::verify(response, &self.header, arpk).ok()
    }
}

trait Expect {
    fn ok(self) -> Self;
    fn refused(self, rc: u16, rrc: u16);
}

impl Expect for Called {
    #[track_caller]
    fn ok(self) -> Self {
        assert_eq!((self.rc, self.rrc), (1, 0));
        self
    }

    #[track_caller]
    fn refused(self, rc: u16, rrc: u16) {
        assert_eq!((self.rc, self.rrc), (rc, rrc));
    }
}

fn plaintext(name: &str, bytes: &[u8]) -> GuestSecret {
    let key = RetrievableKey::new(KeyType::Plain, name, bytes).unwrap();
    GuestSecret::Retrievable { name: SecretName::hashed(name), key }
}

fn association(name: &str) -> GuestSecret {
    GuestSecret::Association { name: SecretName::hashed(name), secret: Secret::new([7; 32]) }
}

const ALL_ADDITIONAL: u64 = ArcbFlags::IMAGE_PHKH.0
    | ArcbFlags::ATTESTATION_PHKH.0
    | ArcbFlags::SECRET_STORE_HASH.0
    | ArcbFlags::FIRMWARE_STATE.0;

#[test]
fn an_owner_attests_a_guest_and_gives_it_a_secret_that_the_host_never_sees() {
    let mut scene = Scene::new("attestation");
    let (arcb, arpk) = scene.arcb(ALL_ADDITIONAL);
    let response = scene.attest(&arcb, b"the guest's public key");
    let verified = scene.verify(&response, &arpk).expect("the answer is the guest's");
    let own = scene.header.slots[0].phkh;
    assert_eq!((verified.items.image_phkh, verified.items.attestation_phkh), (Some(own), Some(own)));
    assert_eq!(verified.items.secret_store_hash, Some(sha512(&[0])), "empty and open");
    assert!(verified.items.firmware_state.unwrap().starts_with(b"CLOISTER-MODEL"));

    // Bound to this run of this image.
    let uid = verified.config_uid;
    let root = plaintext("root", PASSPHRASE);
    let request = scene.request(root, |request| request.config_uid = Some(uid));
    scene.add(&request).ok();
    let other = scene.request(association("adapter"), |request| request.config_uid = Some(uid));
    scene.add(&other).ok();
    scene.proxy.call(&LockSecrets {}.encode(), &[]).ok();

    let list = ListSecrets { start_index: 0, addr: OUTPUT };
    scene.proxy.call(&list.encode(), &[]).ok();
    let list = SecretList::parse(&scene.proxy.output()).unwrap();
    assert_eq!((list.total, list.next), (2, 0));
    assert_eq!(list.entries[0].id, *SecretName::hashed("root").id());
    assert_eq!(list.entries[1].kind, SecretType::ASSOCIATION);

    let get = RetrSecret { index: 0, buf_size: OUTPUT_SIZE as u32, buf_addr: OUTPUT };
    scene.proxy.call(&get.encode(), &[]).ok();
    assert_eq!(scene.proxy.seen_by_host(PASSPHRASE), 0, "the guest has it, the host does not");
    let output = scene.proxy.output();
    assert_eq!(output[2..2 + PASSPHRASE.len()], *PASSPHRASE);
    assert_eq!(scene.proxy.seen_by_host(PASSPHRASE), 1, "the guest gave it away itself");

    // The store's hash tells which requests were accepted, and that it is locked.
    let response = scene.attest(&arcb, b"");
    let verified = scene.verify(&response, &arpk).unwrap();
    let expected = sha512(&[&request.tag[..], &other.tag, &[1]].concat());
    assert_eq!(verified.items.secret_store_hash, Some(expected));
    assert_eq!(verified.config_uid, uid);
    assert_eq!(scene.proxy.end().end, End::PowerOff);
}

#[test]
fn an_answer_that_was_changed_or_is_another_guests_does_not_verify() {
    let mut scene = Scene::new("changed");
    let (arcb, arpk) = scene.arcb(ALL_ADDITIONAL);
    let good = scene.attest(&arcb, b"user data");
    assert!(scene.verify(&good, &arpk).is_some());
    let changes: [fn(&mut ExchangeResponse); 5] = [
        |answer| answer.user_data[0] ^= 1,
        |answer| answer.measurement[63] ^= 1,
        |answer| answer.config_uid[0] ^= 1,
        |answer| answer.additional[100] ^= 1,
        |answer| {
            answer.additional.pop();
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed);
        assert!(scene.verify(&changed, &arpk).is_none(), "change {number}");
    }
    // An older answer to another request.
    let (_, newer) = scene.arcb(ALL_ADDITIONAL);
    assert!(scene.verify(&good, &newer).is_none());
    // The same machine and program with another command line is another image.
    let image = scene.model.image(&guest_program("proxy"), None, "other", &Settings::default());
    let other = attest::read_header(&scene.model.write("other.img", &image)).unwrap();
    assert!(attest::verify(&good, &other, &arpk).is_err());
    // The guest cannot have other user data measured into the same answer.
    let second = scene.attest(&arcb, b"user-data");
    assert!(second.measurement != good.measurement);
    assert_eq!(scene.proxy.end().end, End::PowerOff);
}

#[test]
fn requests_that_are_not_for_this_guest_are_refused() {
    let mut scene = Scene::new("refusals");
    let attest = |scene: &Scene, arcb: &[u8]| scene.proxy.call(&attest_call(b"").encode(), arcb);
    // Another machine's key.
    let stranger = P521Secret::generate(&mut SeededEntropy::new(b"stranger")).public();
    let (foreign, _) = attest::request(&[stranger], ArcbFlags(0), &mut scene.entropy).unwrap();
    attest(&scene, &foreign.encode()).refused(0x10c, 1);
    // A changed request.
    let (mut arcb, _) = scene.arcb(0);
    *arcb.last_mut().unwrap() ^= 1;
    attest(&scene, &arcb).refused(0x10c, 4);

    let request = scene.request(association("one"), |_| {});
    let stranger = secret::request(
        &[stranger],
        &scene.header,
        &Request {
            secret: association("one"),
            extension: ExtensionSecret::None,
            config_uid: None,
            disable_dump: false,
            user_data: UserData::None,
        },
        &mut scene.entropy,
    );
    scene.add(&stranger.unwrap()).refused(0x108, 1);
    let mut changed = request.clone();
    changed.encrypted_area[0] ^= 1;
    scene.add(&changed).refused(0x108, 4);
    // Another image of the same owner, another run of the same image.
    let (mine, mut other) = (scene.header.clone(), scene.header.clone());
    other.tag[0] ^= 1;
    scene.header = other;
    let for_other = scene.request(association("one"), |_| {});
    scene.header = mine;
    scene.add(&for_other).refused(0x10c, 1);
    let elsewhere = scene.request(association("one"), |request| request.config_uid = Some([1; 16]));
    scene.add(&elsewhere).refused(0x10c, 2);
    // The right one, twice; then another extension secret; then a locked store.
    scene.add(&request).ok();
    scene.add(&request).refused(0x10c, 4);
    let extended = scene.request(association("two"), |request| {
        request.extension = ExtensionSecret::Simple(Secret::new([1; 32]));
    });
    scene.add(&extended).refused(0x10c, 3);
    let update = scene.request(GuestSecret::UpdateCck(Secret::new([2; 32])), |_| {});
    scene.add(&update).refused(0x10c, 6);
    scene.proxy.call(&LockSecrets {}.encode(), &[]).ok();
    let late = scene.request(association("late"), |_| {});
    scene.add(&late).refused(0x102, 0);
    let get = RetrSecret { index: 0, buf_size: 0x100, buf_addr: OUTPUT };
    scene.proxy.call(&get.encode(), &[]).refused(0x111, 0);
    assert_eq!(scene.proxy.end().end, End::PowerOff);
}

#[test]
fn addresses_that_the_guest_does_not_have_get_their_codes() {
    let mut scene = Scene::new("addresses");
    let (arcb, _) = scene.arcb(ArcbFlags::IMAGE_PHKH.0);
    let size = scene.proxy.look(|world| world.host.size());
    for address in [size, size - 8, 1 << 40, u64::MAX - 8] {
        let attest = |change: fn(&mut RetrAttest, u64)| {
            let mut call = attest_call(b"");
            change(&mut call, address);
            scene.proxy.call(&call.encode(), &arcb)
        };
        attest(|call, address| call.arcb_addr = address).refused(0x103, 0);
        attest(|call, address| call.meas_addr = address).refused(0x104, 0);
        attest(|call, address| call.add_addr = address).refused(0x105, 0);
        scene.proxy.call(&AddSecret { addr: address }.encode(), &[]).refused(0x103, 0);
        let list = ListSecrets { start_index: 0, addr: address };
        scene.proxy.call(&list.encode(), &[]).refused(0x102, 0);
    }
    assert_eq!(scene.proxy.end().end, End::PowerOff);
}

#[test]
fn a_host_that_takes_the_pages_away_delays_a_call_and_changes_nothing() {
    let mut scene = Scene::new("pages");
    let (arcb, arpk) = scene.arcb(ALL_ADDITIONAL);
    let first = scene.attest(&arcb, b"same");
    for page in [0x60, INPUT / 4096, OUTPUT / 4096, OUTPUT / 4096 + 1] {
        scene.proxy.look(move |world| assert!(world.host.export(page).ok()));
        let again = scene.attest(&arcb, b"same");
        assert_eq!(again, first, "page {page:#x}");
    }
    let secret = scene.request(association("once"), |_| {});
    scene.proxy.look(|world| {
        for page in [0x60, INPUT / 4096] {
            assert!(world.host.export(page).ok());
        }
    });
    scene.add(&secret).ok();
    scene.add(&secret).refused(0x10c, 4);
    let verified = scene.verify(&scene.attest(&arcb, b""), &arpk).unwrap();
    assert_eq!(verified.items.secret_store_hash, Some(sha512(&[&secret.tag[..], &[0]].concat())));
    assert_eq!(scene.proxy.end().end, End::PowerOff);
}

#[test]
fn the_query_tells_a_guest_what_there_is() {
    let scene = Scene::new("query");
    let called = scene.proxy.call(&Qui::default().encode(), &[]).ok();
    let query = Qui::parse(&called.block).unwrap();
    for command in [
        UvCommand::RETR_ATTEST,
        UvCommand::ADD_SECRET,
        UvCommand::LIST_SECRETS,
        UvCommand::LOCK_SECRETS,
        UvCommand::RETR_SECRET,
        UvCommand::QUERY_KEYS,
    ] {
        let bit = command.call_bit().unwrap();
        assert!(query.installed_calls[0] >> (63 - bit) & 1 != 0, "{command:?}");
    }
    let called = scene.proxy.call(&QueryKeys::default().encode(), &[]).ok();
    assert_eq!(QueryKeys::parse(&called.block).unwrap().key_hash[0], scene.header.slots[0].phkh.0);
    assert_eq!(scene.proxy.end().end, End::PowerOff);
}
