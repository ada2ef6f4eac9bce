//! A descriptor set as a sorted listing, one line a fact, so that two sets can be compared and a
//! change can be read in a diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FieldOptions, FileDescriptorProto,
    FileDescriptorSet, MessageOptions, MethodDescriptorProto,
};

/// What stands on the wire or in JSON, by full name: messages, fields, enums, values, services,
/// methods. Extensions, and options that change neither (packages of other languages, HTTP routes),
/// are left out.
pub(crate) type Listing = BTreeMap<String, String>;

/// Lists the files of `set` that `wanted` accepts.
pub(crate) fn list(set: &FileDescriptorSet, wanted: impl Fn(&FileDescriptorProto) -> bool) -> Listing {
    let mut listing = Listing::new();
    for file in set.file.iter().filter(|file| wanted(file)) {
        let scope = file.package();
        for message in &file.message_type {
            list_message(&mut listing, scope, message);
        }
        for enumeration in &file.enum_type {
            list_enum(&mut listing, scope, enumeration);
        }
        for service in &file.service {
            let name = format!("{scope}.{}", service.name());
            for method in &service.method {
                listing.insert(format!("{name}.{}", method.name()), method_line(method));
            }
            listing.insert(name, "service".to_owned());
        }
    }
    listing
}

fn list_message(listing: &mut Listing, scope: &str, message: &DescriptorProto) {
    let name = format!("{scope}.{}", message.name());
    for field in &message.field {
        listing.insert(format!("{name}.{}", field.name()), field_line(field, message));
    }
    for nested in message.nested_type.iter().filter(|nested| !is_map_entry(nested)) {
        list_message(listing, &name, nested);
    }
    for enumeration in &message.enum_type {
        list_enum(listing, &name, enumeration);
    }
    listing.insert(name, "message".to_owned());
}

fn list_enum(listing: &mut Listing, scope: &str, enumeration: &EnumDescriptorProto) {
    let name = format!("{scope}.{}", enumeration.name());
    for value in &enumeration.value {
        listing.insert(format!("{name}.{}", value.name()), format!("= {}", value.number()));
    }
    listing.insert(name, "enum".to_owned());
}

fn field_line(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let mut line = format!("= {} {}", field.number(), field_type(field, message));
    if field.proto3_optional() {
        line.push_str(" optional");
    } else if let Some(index) = field.oneof_index {
        let oneof = usize::try_from(index).ok().and_then(|index| message.oneof_decl.get(index));
        let _ = write!(line, " oneof={}", oneof.map_or("?", |oneof| oneof.name()));
    }
    let json = json_name(field);
    if json != field.name() {
        let _ = write!(line, " json={json}");
    }
    if field.options.as_ref().is_some_and(FieldOptions::deprecated) {
        line.push_str(" deprecated");
    }
    line
}

/// The field's type with its label; a map by its key and value, for the entry message is an artefact.
fn field_type(field: &FieldDescriptorProto, message: &DescriptorProto) -> String {
    let entry = message.nested_type.iter().find(|nested| {
        is_map_entry(nested) && field.type_name().ends_with(&format!(".{}.{}", message.name(), nested.name()))
    });
    if let Some([key, value]) = entry.map(|entry| entry.field.as_slice()) {
        return format!("map<{}, {}>", plain_type(key), plain_type(value));
    }
    match field.label() {
        Label::Repeated => format!("repeated {}", plain_type(field)),
        Label::Optional => plain_type(field),
        Label::Required => format!("required {}", plain_type(field)),
    }
}

fn plain_type(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    }
}

fn method_line(method: &MethodDescriptorProto) -> String {
    let stream = |streaming: bool| if streaming { "stream " } else { "" };
    format!(
        "rpc {}{} -> {}{}",
        stream(method.client_streaming()),
        method.input_type().trim_start_matches('.'),
        stream(method.server_streaming()),
        method.output_type().trim_start_matches('.'),
    )
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(MessageOptions::map_entry)
}

/// The field's JSON name; some generators leave the default one out of the descriptor.
fn json_name(field: &FieldDescriptorProto) -> String {
    if let Some(name) = &field.json_name {
        return name.clone();
    }
    let mut upper = false;
    let mut name = String::new();
    for letter in field.name().chars() {
        match letter {
            '_' => upper = true,
            _ if upper => {
                name.extend(letter.to_uppercase());
                upper = false;
            }
            _ => name.push(letter),
        }
    }
    name
}
