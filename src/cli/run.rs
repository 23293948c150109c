//! `sluicegate run`: a pipeline, as a file says.

use super::args::{Format, RunArgs};
use super::exit::{Exit, Failure};
use super::job::report;
use super::job::resume::{self, Begin, Question, Verdict, compare};
use super::job::target::Target;
use super::job::{self, Created, Outputs, check_folder};
use super::progress::Progress;
use super::signals::Signals;
use super::values::{show_count, show_size};
use crate::cli::out::outln;
use crate::clock::Clock;
use crate::engine::{GroupLimits, RunReport};
use crate::journal::sqlite::RunRecord;
use crate::journal::sqlite::recover::Earlier;
use crate::pipeline::document::Document;
use crate::pipeline::{Pipeline, Plan, Problem, Syntax, handler_vocabulary, overrides, vocabulary};
use crate::sink::FileOptions;
use crate::source::ChunkLimits;
use crate::trouble::{Trouble, TroubleKind};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a file with this name is written in.
pub fn syntax(path: &Path) -> Option<Syntax> {
    match path.extension()?.to_str()? {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "toml" => Some(Syntax::Toml),
        "json" => Some(Syntax::Json),
        _ => None,
    }
}

/// Reads a pipeline file, with what comes from the environment and from `--set`.
///
/// # Errors
/// The outer one when it cannot be read, the inner one with everything that is wrong with it.
pub fn read(path: &Path, set: &[String]) -> Result<Result<Pipeline, Vec<Problem>>, Failure> {
    let text = super::check::read(path)?;
    let Some(syntax) = syntax(path) else {
        let message = format!("{} is called neither .yaml nor .toml nor .json, so that its syntax is not known", path.display());
        return Err(Failure::configuration(message));
    };
    let mut settings = overrides::from_environment(std::env::vars(), &vocabulary::top_names());
    for assignment in set {
        let (path, value) = assignment
            .split_once('=')
            .ok_or_else(|| Failure::configuration(format!("--set {assignment}: write it like sink.path=out.jsonl")))?;
        settings.push((path.to_owned(), value.to_owned()));
    }
    let pipeline = || {
        let mut document = Document::parse(&text, syntax).map_err(|problem| vec![problem])?;
        overrides::interpolate(&mut document, &|name| std::env::var(name).ok())?;
        for (path, value) in &settings {
            overrides::set(&mut document.value, path, value)
                .map_err(|message| vec![Problem { position: None, path: String::new(), message }])?;
        }
        Pipeline::of(document).map_err(|problems| problems.0)
    };
    Ok(pipeline())
}

/// Runs the command.
pub fn run(args: &RunArgs) -> Result<Exit, Failure> {
    let pipeline = match read(&args.file, &args.set)? {
        Ok(pipeline) => pipeline,
        Err(problems) => {
            problems.iter().for_each(|problem| eprintln!("{}", located(&args.file, problem)));
            return Err(Failure::configuration(format!("{} cannot be run; `sluicegate check {0}` shows the same", args.file.display())));
        }
    };
    let pipeline = match &pipeline.model().top.definition {
        Some(path) => {
            let definition = super::check::definition(Path::new(path), Some(&handler_vocabulary()))?;
            pipeline.with_definition(definition)
        }
        None => pipeline,
    };
    let signals = Signals::listen();
    let job = Job::new(args, &pipeline, signals)?;
    job.run()
}

/// A problem on one line, in the form that editors jump to.
pub fn located(path: &Path, problem: &Problem) -> String {
    let separator = if problem.position.is_some() { ":" } else { ": " };
    format!("{}{separator}{problem}", path.display())
}

/// One pipeline, about to run.
struct Job<'a> {
    args: &'a RunArgs,
    pipeline: &'a Pipeline,
    plan: Plan,
    target: Target,
    signals: Signals,
}

impl<'a> Job<'a> {
    fn new(args: &'a RunArgs, pipeline: &'a Pipeline, signals: Signals) -> Result<Job<'a>, Failure> {
        let target = Target::of_path(pipeline.sink_path());
        if let Target::Files(path) = &target {
            check_folder(Path::new(path), "")?;
            if Path::new(path).is_dir() {
                return Err(Failure::configuration(format!("sink.path {path} is a directory; name a file in it")));
            }
        }
        let plan = pipeline.plan()?;
        let (limit, floor) = (plan.memory_limit(), plan.memory_floor());
        if limit < floor {
            return Err(Failure::configuration(format!(
                "memory_limit {} is less than the {} that these readers, workers and chunks need; allow more, or take fewer or smaller ones",
                show_size(limit as u64),
                show_size(floor as u64)
            )));
        }
        Ok(Job { args, pipeline, plan, target, signals })
    }

    fn outputs(&self) -> Result<Outputs, Failure> {
        let top = &self.pipeline.model().top;
        let journal = match top.journal.as_deref() {
            _ if self.args.no_journal => None,
            Some("none") => None,
            Some(path) => Some(path.into()),
            None => self.target.beside("journal"),
        };
        let buffered = self.pipeline.model().sink.buffered.is_some_and(|flag| flag.0);
        Ok(Outputs {
            target: self.target.clone(),
            files: self.target.part_files(1),
            options: FileOptions { replace: self.args.force, mode: self.pipeline.mode(), direct: !buffered },
            dead_letter: top.dead_letter.as_ref().map(PathBuf::from).or_else(|| self.target.beside("dead.jsonl")),
            journal,
            dead_letter_setting: "dead_letter: PATH",
            head: self.packed_head()?,
        })
    }

    /// Every file is one thing only.
    fn check_paths(&self, outputs: &Outputs) -> Result<(), Failure> {
        let inputs = self.plan.files().inputs().iter().map(|input| ("an input", input.path.clone()));
        let files = outputs.files.iter().map(|file| ("the output", file.clone()));
        let partial = outputs.files.iter().map(|file| ("the output", crate::sink::partial_name(file)));
        let beside = [("the journal", &outputs.journal), ("the dead letter", &outputs.dead_letter)];
        let beside: Vec<_> = beside.into_iter().filter_map(|(what, path)| Some((what, path.clone()?))).collect();
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let all: Vec<(&str, PathBuf)> =
            inputs.chain(files).chain(partial).chain(beside.clone()).filter(|(_, path)| path != Path::new("-")).collect();
        for (what, path) in &beside {
            check_folder(path, &format!(" of {what}"))?;
        }
        for (place, (what, path)) in all.iter().enumerate() {
            let other = all[..place].iter().find(|(other, path_there)| other != what && real(path_there) == real(path));
            if let Some((other, _)) = other {
                return Err(Failure::configuration(format!("{} cannot be {what}: it is {other}", path.display())));
            }
        }
        Ok(())
    }

    fn run(&self) -> Result<Exit, Failure> {
        let outputs = self.outputs()?;
        self.check_paths(&outputs)?;
        if self.args.dry_run {
            return self.dry_run();
        }
        let claims = outputs.claim()?;
        let begin = self.look(&outputs)?;
        if let Begin::Complete(earlier) = &begin {
            return Ok(self.complete(earlier));
        }
        if matches!(begin, Begin::Anew(_)) && !self.args.force {
            outputs.refuse_existing()?;
        }
        if let (Begin::GoOn(earlier), Some(journal)) = (&begin, &outputs.journal) {
            resume::verify_output(journal, &outputs.files, earlier)?;
        }
        // From here on the sink's own claim holds.
        drop(claims);
        let report = self.go(&outputs, &begin).inspect_err(|failure| self.tell_failure(failure, &outputs))?;
        let mut exit = Exit::from(report.outcome);
        if report.rows.cancelled > 0 {
            exit = exit.and(Exit::DeadLetters);
        }
        self.tell(&report, &outputs);
        Ok(exit)
    }

    fn go(&self, outputs: &Outputs, begin: &Begin) -> Result<RunReport, Failure> {
        let limits = match begin {
            Begin::GoOn(earlier) => resume::limits(&earlier.run),
            _ => self.plan.limits(),
        };
        let mut source = self.plan.source_with(limits);
        if let Begin::GoOn(earlier) = begin {
            source = source.without(earlier.finished.keys().copied(), earlier.ended());
        }
        let clock = Clock::real();
        let mut run = self.plan.orchestrator(source).clock(clock.clone()).leave_parked_chunks();
        if let Some(bytes) = self.pipeline.model().checkpoint.bytes {
            run = run.group(GroupLimits { bytes: bytes.0 as u64, ..GroupLimits::default() });
        }
        let mut created = Created::default();
        run = outputs.attach(run, begin, self.record(outputs, limits), clock, &mut created)?;
        if let Begin::GoOn(earlier) = begin {
            if !self.args.quiet {
                eprintln!("{}: resuming: {}", self.shown(), resume::done(earlier, self.plan.files().ranges().len()));
            }
            run = run.carry_over(earlier.carried());
        }
        let running = run.start()?;
        created.keep();
        let progress = Progress::show(running.handle(), self.shown(), None, self.args.progress, self.args.quiet);
        let result = job::wait(running, &self.signals);
        drop(progress);
        result.map_err(|error| job::explain(error, self.is_resumable(outputs)))
    }

    fn is_resumable(&self, outputs: &Outputs) -> bool {
        outputs.journal.is_some() && !self.target.is_stream() && self.plan.files().repeats()
    }

    fn shown(&self) -> String {
        let inputs: Vec<&str> = self.plan.files().inputs().iter().map(|input| &*input.shown).collect();
        match inputs.len() {
            1 => inputs[0].to_owned(),
            count => format!("{} and {} more", inputs[0], count - 1),
        }
    }

    fn look(&self, outputs: &Outputs) -> Result<Begin, Failure> {
        let question = Question {
            journal: outputs.journal.clone().filter(|_| !self.args.fresh),
            definition: self.pipeline.definition(),
            target: &self.target,
            stranger: "another pipeline, or of an input that is another by now",
        };
        if !self.plan.files().repeats() {
            // Nor can it be known whether it would be the same.
            let has_begun = question.journal.is_some_and(|journal| journal.exists());
            return Ok(Begin::Anew(has_begun.then(|| "what comes through a pipe cannot be read again".to_owned())));
        }
        let judge = |_: &Earlier| Verdict { files: outputs.files.clone(), obstacle: None };
        resume::look(&question, |earlier| self.differences(earlier), judge)
    }

    fn differences(&self, earlier: &Earlier) -> Vec<String> {
        let mut found = Vec::new();
        // The directory may have another name by now, but another file is another pipeline's.
        let name = |target: &str| json!(Path::new(target).file_name().map(|name| name.to_string_lossy().into_owned()));
        compare("target", &name(&earlier.run.target), &name(&self.target.to_string()), &mut found);
        let settings = self.output_settings();
        for key in ["identity", "compression", "ordered"] {
            compare(key, &earlier.run.settings[key], &settings[key], &mut found);
        }
        compare("cut", &earlier.run.plan["cut"], &self.plan.files().describe(), &mut found);
        found
    }

    /// What decides how the output looks. It has to be the same to go on.
    fn output_settings(&self) -> Value {
        let ordered = self.pipeline.model().top.ordered.is_none_or(|flag| flag.0);
        json!({ "identity": self.plan.identity(), "compression": self.pipeline.compression(), "ordered": ordered })
    }

    fn record(&self, outputs: &Outputs, limits: ChunkLimits) -> RunRecord {
        let mut settings = self.output_settings();
        settings["chunk"] = json!({ "bytes": limits.bytes, "rows": (limits.rows < u64::MAX).then_some(limits.rows) });
        settings["rows"] = json!({ "form": self.plan.form() });
        settings["rows_are_lines"] = self.plan.writes_lines().into();
        settings["head_bytes"] = outputs.head.len().into();
        let files = self.plan.files();
        RunRecord {
            target: self.target.to_string(),
            source: json!({ "pipeline": self.args.file }),
            snapshot: None,
            plan: json!({ "ranges": files.ranges().len(), "bytes": files.bytes(), "cut": files.describe() }),
            settings,
        }
    }

    /// What the output begins with, as it stands there.
    fn packed_head(&self) -> Result<Vec<u8>, Failure> {
        let packed = self.pipeline.compression().packed(&self.plan.head());
        Ok(packed.map_err(|error| Trouble::lasting(TroubleKind::Configuration, error.to_string()))?)
    }

    fn how(&self) -> String {
        let files = self.plan.files();
        let (inputs, ranges) = (files.inputs().len() as u64, files.ranges().len() as u64);
        let bytes = if files.repeats() { format!(", {}", show_size(files.bytes())) } else { String::new() };
        format!("{} input{}{bytes}, {} range{}", show_count(inputs), plural(inputs), show_count(ranges), plural(ranges))
    }

    fn dry_run(&self) -> Result<Exit, Failure> {
        let files = self.plan.files();
        let first = self.plan.source().sample().map_err(|trouble| Failure::from(trouble).advise("Nothing was written."))?;
        if self.args.report == Format::Json {
            let plan = json!({
                "source": self.shown(), "target": self.target.to_string(), "cut": files.describe(), "ranges": files.ranges().len(),
                "identity": self.plan.identity(), "first_chunk_rows": first, "dry_run": true,
            });
            outln!("{:#}", json!([plan]));
            return Ok(Exit::Complete);
        }
        outln!("{} -> {}", self.shown(), self.target);
        outln!("  read: {}", self.how());
        outln!("  first chunk: {} rows; nothing was written", show_count(first));
        Ok(Exit::Complete)
    }

    fn complete(&self, earlier: &Earlier) -> Exit {
        let rows = earlier.carried().rows;
        if self.args.report == Format::Json {
            let told = json!({
                "source": self.shown(), "target": self.target.to_string(),
                "already_complete": { "at_micros": earlier.run.ended_at, "rows": rows },
            });
            report::print_json(&[told], self.target.is_stream());
        } else if !self.args.quiet {
            eprintln!(
                "{} -> {}: already complete ({} rows); --fresh --force runs it anew",
                self.shown(),
                self.target,
                show_count(rows.written)
            );
        }
        if rows.dead_lettered + rows.cancelled > 0 { Exit::DeadLetters } else { Exit::Complete }
    }

    /// Programs get a report of a run that failed, too.
    fn tell_failure(&self, failure: &Failure, outputs: &Outputs) {
        if self.args.report == Format::Json {
            let told = json!({
                "source": self.shown(), "target": self.target.to_string(), "files": outputs.files,
                "failure": failure.describe(), "run": failure.run(),
            });
            report::print_json(&[told], self.target.is_stream());
        }
    }

    fn tell(&self, report: &RunReport, outputs: &Outputs) {
        if self.args.report == Format::Json {
            let told = json!({ "source": self.shown(), "target": self.target.to_string(), "files": outputs.files, "run": report });
            report::print_json(&[told], self.target.is_stream());
        } else if !self.args.quiet {
            report::print(report, &self.shown(), &self.target, &self.how());
        }
        if report.outcome == crate::engine::Outcome::Stopped && !self.args.quiet {
            let goes_on = self.is_resumable(outputs);
            eprintln!("{}", if goes_on { "The same command goes on from there." } else { "The same command starts over." });
        }
    }
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// Whether a file is a pipeline and no definition.
pub fn is_pipeline(path: &Path, text: &str) -> bool {
    match syntax(path) {
        Some(Syntax::Yaml | Syntax::Toml) => true,
        Some(Syntax::Json) => {
            serde_json::from_str::<Value>(text).is_ok_and(|value| value.get("source").is_some() && value.get("states").is_none())
        }
        None => false,
    }
}

/// Where a pipeline's definition cannot be read, that is a finding too.
pub fn check_definition(pipeline: &Pipeline) -> Result<(), Failure> {
    let Some(path) = &pipeline.model().top.definition else { return Ok(()) };
    let found = super::check::definition(Path::new(path), Some(&handler_vocabulary()));
    found.map(drop).map_err(|failure| Trouble::lasting(TroubleKind::Configuration, failure.to_string()).into())
}
