//! The subject by which the certificate that signs IBM's host-key documents is known.

use der::asn1::{PrintableStringRef, Utf8StringRef};
use der::oid::ObjectIdentifier;
use x509_cert::name::Name;

/// Whether `name` is the subject of a certificate that signs host-key documents: exactly the six
/// entries that IBM publishes, in any order.
pub(super) fn is_signing_subject(name: &Name) -> bool {
    let Some(entries) = entries(name) else { return false };
    let value = |wanted| {
        let mut found = entries.iter().filter(|(oid, _)| *oid == wanted);
        match (found.next(), found.next()) {
            (Some((_, value)), None) => Some(value.as_str()),
            _ => None,
        }
    };
    entries.len() == 6
        && value(COUNTRY) == Some("US")
        && value(STATE) == Some("New York")
        && matches!(value(LOCALITY), Some(POUGHKEEPSIE | ARMONK))
        && value(ORGANIZATION) == Some(COMPANY)
        && value(COMMON_NAME) == Some(COMPANY)
        && value(UNIT).is_some_and(|unit| unit.ends_with("Key Signing Service"))
}

/// Whether a list issued under `list` can be that of the signing certificate `subject`. The lists
/// in the field name the issuer with another order of entries, or with the older locality.
pub(super) fn same_signer(list: &Name, subject: &Name) -> bool {
    list == subject
        || match (entries(list), entries(subject)) {
            (Some(mut list), Some(mut subject)) => {
                for name in [&mut list, &mut subject] {
                    for (oid, value) in name.iter_mut() {
                        if *oid == LOCALITY && value == ARMONK {
                            *value = POUGHKEEPSIE.into();
                        }
                    }
                    name.sort();
                }
                list == subject
            }
            _ => false,
        }
}

fn entries(name: &Name) -> Option<Vec<(ObjectIdentifier, String)>> {
    name.iter()
        .map(|entry| {
            let utf8 = Utf8StringRef::try_from(&entry.value).map(|text| text.as_str().to_owned());
            let text = utf8
                .or_else(|_| PrintableStringRef::try_from(&entry.value).map(|text| text.as_str().to_owned()));
            text.ok().map(|text| (entry.oid, text))
        })
        .collect()
}

const COMPANY: &str = "International Business Machines Corporation";
const POUGHKEEPSIE: &str = "Poughkeepsie";
const ARMONK: &str = "Armonk";
// X.520, clause 6.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const COUNTRY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.6");
const LOCALITY: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.7");
const STATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.8");
const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const UNIT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.11");

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_str(text).unwrap()
    }

    const GOOD: &str = "CN=International Business Machines Corporation,OU=IBM Z Host Key Signing Service,\
        O=International Business Machines Corporation,L=Poughkeepsie,ST=New York,C=US";

    #[test]
    fn the_six_entries_and_no_other() {
        assert!(is_signing_subject(&name(GOOD)));
        assert!(is_signing_subject(&name(&GOOD.replace("Poughkeepsie", "Armonk"))));
        for (from, to) in [
            ("C=US", "C=DE"),
            ("New York", "New Jersey"),
            ("Poughkeepsie", "Boston"),
            ("Signing Service", "Signing Servic"),
            ("CN=International", "CN=Internationale"),
            (",C=US", ""),
            (",C=US", ",C=US,C=US"),
            (",C=US", ",C=US,2.5.4.5=1"),
        ] {
            assert!(!is_signing_subject(&name(&GOOD.replace(from, to))), "{from} -> {to}");
        }
    }

    #[test]
    fn lists_may_use_the_older_locality_or_another_order() {
        let armonk = GOOD.replace("Poughkeepsie", "Armonk");
        assert!(same_signer(&name(GOOD), &name(&armonk)));
        let (first, rest) = GOOD.split_once(',').unwrap();
        assert!(same_signer(&name(&format!("{rest},{first}")), &name(&armonk)));
        assert!(!same_signer(&name(&GOOD.replace("IBM Z", "IBM")), &name(GOOD)));
    }
}
