//! [`Scalar`]: a scalar's text and what YAML 1.1 takes it for.

/// A scalar node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) value: Value,
}

/// What a scalar is. `Text` stands for the scalar's own text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Flag(bool),
    Whole(i128),
    Number(f64),
    Text,
}

impl Scalar {
    /// A scalar that is text whatever it looks like: quoted, in block form, or made by a string tag.
    pub(crate) fn text(text: String) -> Self {
        Self { text, value: Value::Text }
    }

    /// A plain scalar, which means what it looks like.
    pub(crate) fn plain(text: String) -> Self {
        let value = resolve(&text);
        Self { text, value }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    pub(crate) fn describe(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Flag(_) => "yes or no",
            Value::Whole(_) | Value::Number(_) => "a number",
            Value::Text => "text",
        }
    }
}

/// YAML 1.1's resolution of a plain scalar, as far as configurations use it: sexagesimal numbers and dates are text.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Value::Flag(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Flag(false);
        }
        _ => {}
    }
    if let Some(number) = whole(text) {
        return Value::Whole(number);
    }
    number(text).map_or(Value::Text, Value::Number)
}

fn whole(text: &str) -> Option<i128> {
    let (negative, digits) = sign(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let clean: String = digits.chars().filter(|c| *c != '_').collect();
    let magnitude = if let Some(hex) = clean.strip_prefix("0x") {
        i128::from_str_radix(hex, 16).ok()?
    } else if let Some(binary) = clean.strip_prefix("0b") {
        i128::from_str_radix(binary, 2).ok()?
    } else if clean.len() > 1 && clean.starts_with('0') {
        i128::from_str_radix(&clean, 8).ok()?
    } else {
        clean.parse().ok()?
    };
    Some(if negative { -magnitude } else { magnitude })
}

fn number(text: &str) -> Option<f64> {
    let (_, digits) = sign(text);
    let looks_like_one = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.contains(|c: char| c.is_ascii_digit())
        && digits.contains('.')
        && digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-' | '_'));
    if !looks_like_one {
        return None;
    }
    text.replace('_', "").parse::<f64>().ok().filter(|n| n.is_finite())
}

fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_yaml_1_1_says() {
        let cases = [
            ("yes", Value::Flag(true)),
            ("Off", Value::Flag(false)),
            ("y", Value::Text),
            ("", Value::Null),
            ("~", Value::Null),
            ("12", Value::Whole(12)),
            ("-3", Value::Whole(-3)),
            ("010", Value::Whole(8)),
            ("0x1F", Value::Whole(31)),
            ("1_000", Value::Whole(1000)),
            ("08", Value::Text),
            ("0.5", Value::Number(0.5)),
            (".5", Value::Number(0.5)),
            ("1.0e+3", Value::Number(1000.0)),
            ("2048M", Value::Text),
            ("1.2.3", Value::Text),
            ("-", Value::Text),
            (".", Value::Text),
        ];
        for (text, value) in cases {
            assert_eq!(Scalar::plain(text.to_owned()).value, value, "{text:?}");
        }
    }

    #[test]
    fn quoted_scalars_are_text() {
        assert_eq!(Scalar::text("yes".to_owned()).value, Value::Text);
    }
}
