//! Values as JavaScript sees them: what the built-in guards compare and the built-in actions store.
//!
//! The oracle of the semantics is XState, so `<`, `===` and `+` mean here what ECMAScript says (ECMA-262, sections
//! "IsLessThan", "IsStrictlyEqual", "StringToNumber", "ToPrimitive"). The one exception: lists and objects have no
//! identity here, so two of them are never equal, not even one to itself.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::builtin::Order;

/// A value somewhere else, looked at.
#[derive(Copy, Clone, Debug)]
pub(super) enum View<'v> {
    /// Not there at all; unlike `null`.
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(&'v str),
    /// A list or an object.
    Json(&'v Value),
}

impl<'v> View<'v> {
    pub fn of(value: &'v Value) -> View<'v> {
        match value {
            Value::Null => View::Null,
            Value::Bool(value) => View::Bool(*value),
            Value::Number(number) => View::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => View::Text(text),
            Value::Array(_) | Value::Object(_) => View::Json(value),
        }
    }

    /// `this[key]`, for objects, lists and the length of lists and strings.
    pub fn member(self, key: &str) -> View<'v> {
        #[allow(clippy::cast_precision_loss, reason = "no text is longer than 2^53")]
        match self {
            View::Json(Value::Object(map)) => get(map, key).map_or(View::Undefined, View::of),
            View::Json(Value::Array(list)) if key == "length" => View::Number(list.len() as f64),
            View::Json(Value::Array(list)) => {
                let canonical = key == "0" || !key.starts_with(['0', '+']);
                let index = key.parse::<usize>().ok().filter(|_| canonical);
                index.and_then(|index| list.get(index)).map_or(View::Undefined, View::of)
            }
            View::Text(text) if key == "length" => View::Number(text.encode_utf16().count() as f64),
            _ => View::Undefined,
        }
    }

    pub fn at(self, path: &[Box<str>]) -> View<'v> {
        path.iter().fold(self, |view, key| view.member(key))
    }

    pub fn to_value(self) -> Option<Value> {
        match self {
            View::Undefined => None,
            View::Null => Some(Value::Null),
            View::Bool(value) => Some(value.into()),
            View::Number(value) => Some(super::definition::number(value)),
            View::Text(text) => Some(text.into()),
            View::Json(value) => Some(value.clone()),
        }
    }

    /// `Number(this)`.
    pub fn to_number(self) -> f64 {
        match self {
            View::Number(value) => value,
            View::Null => 0.0,
            View::Bool(value) => f64::from(u8::from(value)),
            View::Text(text) => number_from_text(text),
            View::Json(value) => number_from_text(&text_of(value)),
            View::Undefined => f64::NAN,
        }
    }

    /// The text that a list, an object or a text is to an operator; `None` for all others.
    fn to_text(self) -> Option<Cow<'v, str>> {
        match self {
            View::Text(text) => Some(text.into()),
            View::Json(value) => Some(text_of(value).into()),
            View::Undefined | View::Null | View::Bool(_) | View::Number(_) => None,
        }
    }
}

/// A member of an object. Short objects are searched in order: event payloads have a handful of keys, and hashing one
/// key costs more than comparing all of them.
pub(super) fn get<'m>(map: &'m Map<String, Value>, key: &str) -> Option<&'m Value> {
    if map.len() <= 8 { map.iter().find(|(name, _)| *name == key).map(|(_, value)| value) } else { map.get(key) }
}

/// `left ORDER right`; false whenever the two cannot be ordered.
#[inline]
pub(super) fn compare(order: Order, left: View<'_>, right: View<'_>) -> bool {
    if order == Order::Equal {
        return equal(left, right);
    }
    let ordering = match (left, right) {
        (View::Number(left), View::Number(right)) => left.partial_cmp(&right),
        _ => match (left.to_text(), right.to_text()) {
            (Some(left), Some(right)) => Some(left.encode_utf16().cmp(right.encode_utf16())),
            _ => left.to_number().partial_cmp(&right.to_number()),
        },
    };
    match order {
        Order::Less => ordering == Some(Ordering::Less),
        Order::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        Order::Greater => ordering == Some(Ordering::Greater),
        Order::GreaterOrEqual => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        Order::Equal => false,
    }
}

/// `left === right`.
#[inline]
pub(super) fn equal(left: View<'_>, right: View<'_>) -> bool {
    match (left, right) {
        #[allow(clippy::float_cmp, reason = "=== compares exactly")]
        (View::Number(left), View::Number(right)) => left == right,
        (View::Text(left), View::Text(right)) => left == right,
        (View::Bool(left), View::Bool(right)) => left == right,
        (View::Null, View::Null) | (View::Undefined, View::Undefined) => true,
        _ => false,
    }
}

/// The result of `(view ?? 0) + by`: a number, or text when `view` is no scalar or text.
pub(super) enum Sum {
    Number(f64),
    Text(String),
}

pub(super) fn add(view: View<'_>, by: f64) -> Sum {
    match (view, view.to_text()) {
        (_, Some(text)) => Sum::Text(format!("{text}{}", number_to_text(by))),
        (View::Undefined, None) => Sum::Number(by),
        (_, None) => Sum::Number(view.to_number() + by),
    }
}

/// `String(value)`.
fn text_of(value: &Value) -> String {
    match View::of(value) {
        View::Json(Value::Array(list)) => {
            // null is nothing inside a list, and "null" outside of one.
            let item = |item: &Value| if item.is_null() { String::new() } else { text_of(item) };
            list.iter().map(item).collect::<Vec<_>>().join(",")
        }
        View::Json(_) => "[object Object]".to_owned(),
        View::Number(number) => number_to_text(number),
        View::Text(text) => text.to_owned(),
        View::Bool(value) => value.to_string(),
        View::Null | View::Undefined => "null".to_owned(),
    }
}

/// A number as JavaScript prints it (ECMA-262, "Number::toString"): the shortest digits that read back the same.
pub(super) fn number_to_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    // `{:e}` prints the same shortest digits as d.ddde±x.
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let digits = mantissa.replace('.', "");
    let point = exponent.parse::<i32>().unwrap_or(0) + 1;
    let count = i32::try_from(digits.len()).unwrap_or(i32::MAX);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or(0));
    let body = match point {
        _ if count <= point && point <= 21 => format!("{digits}{}", zeros(point - count)),
        1..=21 => {
            let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
            format!("{whole}.{fraction}")
        }
        -5..=0 => format!("0.{}{digits}", zeros(-point)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let fraction = if rest.is_empty() { String::new() } else { format!(".{rest}") };
            format!("{first}{fraction}e{}{}", if point > 0 { "+" } else { "-" }, (point - 1).abs())
        }
    };
    format!("{sign}{body}")
}

/// ECMA-262, "StringToNumber".
fn number_from_text(text: &str) -> f64 {
    let text = text.trim_matches(|c: char| c.is_whitespace() && c != '\u{85}' || c == '\u{feff}');
    let radix = |digits: &str, radix: u32| {
        let mut value = if digits.is_empty() { f64::NAN } else { 0.0 };
        for digit in digits.chars() {
            value = value * f64::from(radix) + digit.to_digit(radix).map_or(f64::NAN, f64::from);
        }
        value
    };
    match text.as_bytes() {
        [] => 0.0,
        [b'0', b'x' | b'X', ..] => radix(&text[2..], 16),
        [b'0', b'o' | b'O', ..] => radix(&text[2..], 8),
        [b'0', b'b' | b'B', ..] => radix(&text[2..], 2),
        _ => match text {
            "Infinity" | "+Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            // Rust also reads "inf" and "nan", which are no numbers in JavaScript.
            _ if text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) => text.parse().unwrap_or(f64::NAN),
            _ => f64::NAN,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_in_javascript() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e21, "1e+21"),
            (1e20, "100000000000000000000"),
            (123_456_789_012_345_680_000.0, "123456789012345680000"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (1.25e30, "1.25e+30"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, text) in cases {
            assert_eq!(number_to_text(value), text);
        }
    }

    #[test]
    fn texts_read_as_in_javascript() {
        let same = [("", 0.0), (" 12 ", 12.0), ("0x1F", 31.0), ("0b101", 5.0), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-7", -7.0)];
        for (text, value) in same {
            assert_eq!(number_from_text(text).to_bits(), f64::to_bits(value), "{text}");
        }
        for text in ["inf", "nan", "1_000", "12px", "0x", "0b2", "-0x1", "e5", "."] {
            assert!(number_from_text(text).is_nan(), "{text}");
        }
        assert_eq!(number_from_text("-Infinity").to_bits(), f64::NEG_INFINITY.to_bits());
    }

    #[test]
    fn comparisons_are_those_of_javascript() {
        let less = |left, right| compare(Order::Less, left, right);
        assert!(less(View::Null, View::Number(1.0)), "null counts as 0");
        assert!(!less(View::Undefined, View::Number(1.0)) && !less(View::Number(1.0), View::Undefined), "undefined is unordered");
        assert!(less(View::Text("10"), View::Text("9")), "two texts compare as texts");
        assert!(less(View::Text("9"), View::Number(10.0)), "text and number compare as numbers");
        assert!(less(View::Bool(false), View::Bool(true)));
        assert!(compare(Order::LessOrEqual, View::Null, View::Null));
        assert!(!equal(View::Null, View::Undefined) && equal(View::Undefined, View::Undefined));
        assert!(!equal(View::Number(1.0), View::Text("1")));
        let (list, object, five) = (serde_json::json!([2, [null, "x"]]), serde_json::json!({}), serde_json::json!([5]));
        assert_eq!((text_of(&list).as_str(), text_of(&object).as_str()), ("2,,x", "[object Object]"));
        assert!(less(View::Json(&five), View::Number(6.0)));
        assert!(less(View::Text("\u{1f600}"), View::Text("\u{ff5e}")), "by UTF-16 unit, not by character");
    }
}
