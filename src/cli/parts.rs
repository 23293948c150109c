//! `sluicegate list` and `sluicegate show`: what a pipeline can be made of.

use super::args::PartKind;
use super::exit::{Exit, Failure};
use crate::cli::out::outln;
use crate::pipeline::vocabulary::{FORMATS, PROCESSORS, Part, SINKS, SOURCES, nearest};

/// All parts, with the word for their kind.
const ALL: [(&str, &[Part]); 4] = [("source", SOURCES), ("sink", SINKS), ("processor", PROCESSORS), ("format", FORMATS)];

/// Lists the parts of one kind.
pub fn list(kind: PartKind) -> Exit {
    let parts = match kind {
        PartKind::Sources => SOURCES,
        PartKind::Sinks => SINKS,
        PartKind::Processors => PROCESSORS,
        PartKind::Formats => FORMATS,
    };
    parts.iter().for_each(|part| outln!("{:<10} {}", part.name, part.about));
    Exit::Complete
}

/// Shows everything of this name.
pub fn show(name: &str) -> Result<Exit, Failure> {
    let found = ALL.iter().flat_map(|(kind, parts)| parts.iter().map(move |part| (kind, part))).filter(|(_, part)| part.name == name);
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        let names = || ALL.iter().flat_map(|(_, parts)| parts.iter().map(|part| part.name));
        let hint = nearest(name, names()).map_or_else(
            || format!("there are {}", names().skip(1).collect::<Vec<_>>().join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        return Err(Failure::configuration(format!("there is nothing called `{name}`; {hint}")));
    }
    for (kind, part) in found {
        outln!("{kind} {}: {}", part.name, part.about);
        for setting in part.settings {
            let default = if setting.is_required() { "required".to_owned() } else { format!("default: {}", setting.default) };
            outln!("  {:<12} {} ({}; {default})", setting.name, setting.about, setting.takes.words());
        }
    }
    Ok(Exit::Complete)
}
