//! What may cross a door: plain data.

use syn::visit::{self, Visit};
use syn::{Fields, File, ImplItem, Item, ReturnType, Signature, TraitItem, Type, Visibility};

/// What a source file of a door offers that is not plain data: raw pointers anywhere in a public signature
/// or type, references in public types, and borrowed slices as results.
///
/// A slice as an *argument* is allowed: its bytes are copied.
pub fn violations(source: &File) -> Vec<String> {
    let mut found = Vec::new();
    items(&source.items, "", &mut found);
    found
}

/// Messages of a door, `Request` and `Response`, that do not derive their serialisation.
pub fn unserialised_messages(source: &File) -> Vec<String> {
    let mut found = Vec::new();
    for item in &source.items {
        let Item::Enum(message) = item else { continue };
        if message.ident != "Request" && message.ident != "Response" {
            continue;
        }
        let mut derives = Vec::new();
        for attribute in message.attrs.iter().filter(|attribute| attribute.path().is_ident("derive")) {
            // What cannot be read derives nothing as far as this test knows.
            let _ = attribute.parse_nested_meta(|meta| {
                derives.extend(meta.path.segments.last().map(|segment| segment.ident.to_string()));
                Ok(())
            });
        }
        for needed in ["Serialize", "Deserialize"] {
            if !derives.iter().any(|derive| derive == needed) {
                found.push(format!("{}: does not derive {needed}", message.ident));
            }
        }
    }
    found
}

fn items(items: &[Item], module: &str, found: &mut Vec<String>) {
    for item in items {
        match item {
            Item::Struct(it) if public(&it.vis) => {
                fields(&it.fields, &format!("{module}{}", it.ident), false, found)
            }
            Item::Union(it) if public(&it.vis) => {
                found.push(format!("{module}{}: a union is not plain data", it.ident))
            }
            Item::Enum(it) if public(&it.vis) => {
                for variant in &it.variants {
                    fields(&variant.fields, &format!("{module}{}::{}", it.ident, variant.ident), true, found);
                }
            }
            Item::Type(it) if public(&it.vis) => judge(&it.ty, &format!("{module}{}", it.ident), true, found),
            Item::Const(it) if public(&it.vis) => raw(&it.ty, &format!("{module}{}", it.ident), found),
            Item::Static(it) if public(&it.vis) => raw(&it.ty, &format!("{module}{}", it.ident), found),
            Item::Fn(it) if public(&it.vis) => signature(&it.sig, module, found),
            Item::Trait(it) if public(&it.vis) => {
                for item in &it.items {
                    if let TraitItem::Fn(method) = item {
                        signature(&method.sig, &format!("{module}{}::", it.ident), found);
                    }
                }
            }
            Item::Impl(it) => {
                for item in &it.items {
                    if let ImplItem::Fn(method) = item
                        && public(&method.vis)
                    {
                        signature(&method.sig, module, found);
                    }
                }
            }
            Item::Mod(it) => {
                if let Some((_, inner)) = &it.content
                    && public(&it.vis)
                {
                    self::items(inner, &format!("{module}{}::", it.ident), found);
                }
            }
            _ => {}
        }
    }
}

fn fields(fields: &Fields, place: &str, all_public: bool, found: &mut Vec<String>) {
    for (number, field) in fields.iter().enumerate() {
        if all_public || public(&field.vis) {
            let name = field.ident.as_ref().map_or_else(|| number.to_string(), ToString::to_string);
            judge(&field.ty, &format!("{place}.{name}"), true, found);
        }
    }
}

fn signature(signature: &Signature, place: &str, found: &mut Vec<String>) {
    let place = format!("{place}{}", signature.ident);
    for input in &signature.inputs {
        if let syn::FnArg::Typed(argument) = input {
            raw(&argument.ty, &place, found);
        }
    }
    if let ReturnType::Type(_, ty) = &signature.output {
        judge(ty, &place, false, found);
    }
}

fn raw(ty: &Type, place: &str, found: &mut Vec<String>) {
    let mut seen = Seen::default();
    seen.visit_type(ty);
    if seen.pointer {
        found.push(format!("{place}: a raw pointer"));
    }
}

fn judge(ty: &Type, place: &str, stored: bool, found: &mut Vec<String>) {
    let mut seen = Seen::default();
    seen.visit_type(ty);
    if seen.pointer {
        found.push(format!("{place}: a raw pointer"));
    }
    if seen.slice || stored && seen.reference {
        found.push(format!("{place}: borrowed memory"));
    }
}

fn public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

#[derive(Default)]
struct Seen {
    pointer: bool,
    slice: bool,
    reference: bool,
}

impl<'ast> Visit<'ast> for Seen {
    fn visit_type_ptr(&mut self, pointer: &'ast syn::TypePtr) {
        self.pointer = true;
        visit::visit_type_ptr(self, pointer);
    }

    fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
        // Text that lives as long as the program is not guest memory.
        let fixed = reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static");
        self.reference |= !fixed;
        self.slice |= !fixed && matches!(*reference.elem, Type::Slice(_) | Type::Array(_));
        visit::visit_type_reference(self, reference);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.pointer |= path
            .segments
            .last()
            .is_some_and(|segment| segment.ident == "NonNull" || segment.ident == "AtomicPtr");
        visit::visit_path(self, path);
    }
}
