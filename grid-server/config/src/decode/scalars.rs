//! Scalars and the small mappings that stand for one value.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::Fields;
use super::decoder::{Decode, Decoder};
use crate::diagnostics::suggestion;
use crate::model::Secret;
use crate::table::{PERIOD, Ty};
use crate::yaml::{Child, Content, Scalar, Value};

/// One text or a list of texts.
pub(super) struct Names(pub(super) Vec<String>);
/// A mapping of text to text.
pub(super) struct TextMap(pub(super) BTreeMap<String, String>);

impl Decode for bool {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Some(Scalar { value: Value::Flag(flag), .. }) = child.node.scalar() {
            return Some(*flag);
        }
        decoder.expected(child, "yes or no, without quotes");
        None
    }
}

impl Decode for String {
    fn decode(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = text(child, decoder)?;
        if let Ty::OneOf(words) = ty
            && !words.contains(&text.as_str())
        {
            let near = suggestion(&text, words.iter().copied(), "`");
            let message = format!("expected one of {}, found `{text}`{near}", words.join(", "));
            decoder.error(child.mark, message);
            return None;
        }
        Some(text)
    }
}

impl Decode for Secret {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        text(child, decoder).map(Self::new)
    }
}

impl Decode for PathBuf {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let text = text(child, decoder)?;
        if text.is_empty() {
            decoder.error(child.mark, "expected a path, found empty text".to_owned());
            return None;
        }
        Some(Self::from(text))
    }
}

impl Decode for u64 {
    fn decode(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        match ty {
            Ty::Size => size(child, decoder),
            Ty::Whole(min, max) => whole(child, min, max, decoder),
            _ => {
                decoder.defect(child, "a whole number");
                None
            }
        }
    }
}

/// Whole numbers of other widths: the bounds of the table fit them, which its test holds.
macro_rules! whole_numbers {
    ($($name:ty),*) => {$(
        impl Decode for $name {
            fn decode(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
                let number = u64::decode(child, ty, decoder)?;
                let narrow = Self::try_from(number).ok();
                if narrow.is_none() {
                    decoder.error(child.mark, format!("{number} is too large"));
                }
                narrow
            }
        }
    )*};
}
whole_numbers!(u16, u32, usize);

impl Decode for f64 {
    fn decode(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let (min, max) = match ty {
            Ty::Number(min, max) => (min, max),
            Ty::Seconds(min) => (min, 1e9),
            _ => {
                decoder.defect(child, "a number");
                return None;
            }
        };
        let number = match child.node.scalar().map(|scalar| scalar.value) {
            #[allow(clippy::cast_precision_loss, reason = "the bounds are far below 2^53")]
            Some(Value::Whole(whole)) => whole as Self,
            Some(Value::Number(number)) => number,
            _ => {
                decoder.expected(child, "a number");
                return None;
            }
        };
        if !(min..=max).contains(&number) {
            decoder.error(child.mark, format!("expected a number from {min} to {max}, found {number}"));
            return None;
        }
        Some(number)
    }
}

impl Decode for Duration {
    fn decode(child: &Child, ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        if let Ty::Period = ty {
            return period(child, decoder);
        }
        f64::decode(child, ty, decoder).and_then(|seconds| Self::try_from_secs_f64(seconds).ok())
    }
}

impl Decode for Names {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let names = match &child.node.content {
            Content::List(_) => Vec::<String>::decode(child, Ty::List(&Ty::Text), decoder)?,
            Content::Scalar(_) | Content::Map(_) => vec![text(child, decoder)?],
        };
        if names.is_empty() {
            decoder.error(child.mark, "expected at least one, found an empty list".to_owned());
            return None;
        }
        Some(Self(names))
    }
}

impl Decode for TextMap {
    fn decode(child: &Child, _ty: Ty, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Content::Map(entries) = &child.node.content else {
            decoder.expected(child, "a mapping of text to text");
            return None;
        };
        let pairs: Vec<Option<(String, String)>> = entries
            .iter()
            .map(|entry| {
                let value = decoder.at_key(&entry.key, |decoder| text(&entry.value, decoder));
                value.map(|value| (entry.key.to_string(), value))
            })
            .collect();
        pairs.into_iter().collect::<Option<_>>().map(Self)
    }
}

fn text(child: &Child, decoder: &mut Decoder<'_>) -> Option<String> {
    let found = match child.node.scalar() {
        Some(Scalar { value: Value::Text, text }) => return Some(text.clone()),
        Some(scalar) if scalar.is_null() => "nothing",
        Some(scalar) => {
            let message = format!("expected text, found {}: put it in quotes", scalar.describe());
            decoder.error(child.mark, message);
            return None;
        }
        None => &child.node.describe(),
    };
    decoder.error(child.mark, format!("expected text, found {found}"));
    None
}

fn whole(child: &Child, min: u64, max: u64, decoder: &mut Decoder<'_>) -> Option<u64> {
    let Some(Scalar { value: Value::Whole(number), .. }) = child.node.scalar() else {
        decoder.expected(child, "a whole number");
        return None;
    };
    let fitting = u64::try_from(*number).ok().filter(|number| (min..=max).contains(number));
    if fitting.is_none() {
        let bounds =
            if max >= i64::MAX as u64 { format!("from {min}") } else { format!("from {min} to {max}") };
        decoder.error(child.mark, format!("expected a whole number {bounds}, found {number}"));
    }
    fitting
}

/// `[0-9]+[kKmMgGtT]?[bB]?` with binary multiples, as BuildGrid reads sizes.
fn size(child: &Child, decoder: &mut Decoder<'_>) -> Option<u64> {
    let parsed = child.node.scalar().and_then(|scalar| parse_size(&scalar.text));
    if parsed.is_none() {
        let found =
            child.node.scalar().map_or_else(|| child.node.describe(), |scalar| format!("`{}`", scalar.text));
        decoder.error(child.mark, format!("expected a size in bytes such as 512M or 2G, found {found}"));
    }
    parsed
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let text = text.strip_suffix(['b', 'B']).unwrap_or(text);
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        b't' | b'T' => (&text[..text.len() - 1], 40),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn period(child: &Child, decoder: &mut Decoder<'_>) -> Option<Duration> {
    if !matches!(child.node.content, Content::Map(_)) {
        decoder.expected(child, "a period such as {days: 1, hours: 12}");
        return None;
    }
    let mut fields = Fields::new(child, &PERIOD, decoder)?;
    let parts =
        [("weeks", 604_800.0), ("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("seconds", 1.0)]
            .map(|(name, seconds)| fields.or::<f64>(name).map(|amount| amount * seconds));
    let seconds: f64 = parts.into_iter().collect::<Option<Vec<_>>>()?.into_iter().sum();
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_size("2048M"), Some(2048 << 20));
        assert_eq!(parse_size("512MB"), Some(512 << 20));
        assert_eq!(parse_size("1k"), Some(1024));
        assert_eq!(parse_size("3t"), Some(3 << 40));
        assert_eq!(parse_size("17"), Some(17));
        assert_eq!(parse_size("17b"), Some(17));
        for wrong in ["", "b", "M", "1.5G", "-1", "1 GB", "18446744073709551615k", "é"] {
            assert_eq!(parse_size(wrong), None, "{wrong:?}");
        }
    }
}
