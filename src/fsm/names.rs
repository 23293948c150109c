//! The spelling of names, and what a misspelt one was probably meant to be.

/// `[A-Za-z_][A-Za-z0-9_-]*`, except `__proto__`, which JavaScript does not treat as an ordinary key.
pub(super) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && text != "__proto__"
}

/// Names joined by dots.
pub(super) fn is_dotted(text: &str) -> bool {
    text.split('.').all(is_name)
}

/// `name`, `name.name`, `.name`, `#name`, `#name.name`.
pub(super) fn is_target(text: &str) -> bool {
    is_dotted(text.strip_prefix(['#', '.']).unwrap_or(text))
}

/// A full event name that a definition may use: dotted, and not one of XState's own.
pub(super) fn is_event(text: &str) -> bool {
    is_dotted(text) && !is_reserved(text)
}

/// An event name, `prefix.*` or `*`.
pub(super) fn is_descriptor(text: &str) -> bool {
    text == "*" || is_event(text.strip_suffix(".*").unwrap_or(text))
}

/// `xstate` and everything below it.
pub(super) fn is_reserved(text: &str) -> bool {
    text.split('.').next() == Some("xstate")
}

/// A path into the context or an event: non-empty segments joined by dots.
pub(super) fn is_value_path(text: &str) -> bool {
    text.split('.').all(|segment| !segment.is_empty() && segment != "__proto__")
}

/// The candidate nearest to `name`, if one is near enough to be a slip of the fingers.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = name.to_lowercase();
    let length = name.chars().count();
    // A name of which every letter is another one is no slip.
    let limit = (length / 3).max(1).min(length.saturating_sub(1));
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        // Of two that are equally near, the one that ends in the same segment.
        .min_by_key(|(distance, candidate)| (*distance, last_segment(candidate) != last_segment(name)))
        .map(|(_, candidate)| candidate.to_owned())
}

fn last_segment(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
