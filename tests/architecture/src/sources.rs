//! Unsafe code, and what no file of the repository may name.

use syn::visit::{self, Visit};
use syn::{File, Meta};

/// Whether a crate's root file says `#![forbid(unsafe_code)]`.
pub fn forbids_unsafe(root: &File) -> bool {
    root.attrs.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        list.path.is_ident("forbid")
            && list.tokens.to_string().split(',').any(|lint| lint.trim() == "unsafe_code")
    })
}

/// Number of places with unsafe code. What stands in a macro is not seen.
pub fn unsafe_places(source: &File) -> usize {
    struct Count(usize);
    impl<'ast> Visit<'ast> for Count {
        fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
            self.0 += 1;
            visit::visit_expr_unsafe(self, block);
        }
        fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
            self.0 += usize::from(item.unsafety.is_some());
            visit::visit_item_impl(self, item);
        }
        fn visit_signature(&mut self, signature: &'ast syn::Signature) {
            self.0 += usize::from(signature.unsafety.is_some());
            visit::visit_signature(self, signature);
        }
        fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
            self.0 += 1;
            visit::visit_item_foreign_mod(self, item);
        }
        fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
            self.0 +=
                usize::from(attribute.path().is_ident("unsafe") || attribute.path().is_ident("no_mangle"));
            visit::visit_attribute(self, attribute);
        }
    }
    let mut count = Count(0);
    count.visit_file(source);
    count.0
}

/// Words that a file of the repository must not contain, with the reason. They are put together here so that
/// this file does not contain them itself.
pub const FORBIDDEN_WORDS: [(&str, &str); 9] = [
    (concat!("../", "shared"), "the repository stands alone"),
    (concat!("/work/", "main"), "a path of one machine"),
    (concat!("/work/", "shared"), "a path of one machine"),
    (concat!("/root/", "."), "a path of one machine"),
    (concat!("static.", "crates.io"), "a registry's host"),
    (concat!("index.", "crates.io"), "a registry's host"),
    (concat!("deb.", "debian.org"), "a registry's host"),
    (concat!("py", "pi.org"), "a registry's host"),
    (concat!("proxy.", "golang.org"), "a registry's host"),
];

/// Forbidden words in a text.
pub fn forbidden_words(text: &str) -> Vec<&'static str> {
    FORBIDDEN_WORDS.iter().map(|(word, _)| *word).filter(|word| text.contains(word)).collect()
}
