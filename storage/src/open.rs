//! Opening: read what is there, judge it, go on from it or rebuild it.

use std::sync::Arc;

use crate::checkpoint::{start_journal, write_snapshot};
use crate::digest::{Digest, Mark};
use crate::engine::{Engine, EngineError, apply_all, read_tree};
use crate::error::OpenError;
use crate::format::{FORMAT_VERSION, Malformed};
use crate::journal::{self, Event, Found, Marker};
use crate::medium::{Medium, Part};
use crate::pending::Pending;
use crate::report::{Opened, Options, Rebuilt};
use crate::salvage::{EngineView, Evidence, Verdict};
use crate::snapshot;
use crate::store::{Home, Store};
use crate::{Contents, Tree};

type Answer = Result<(Store, Contents, Opened), OpenError>;

/// Opens whatever is on `medium`.
pub(crate) fn open(home: Home, medium: Arc<dyn Medium>, options: Options) -> Answer {
    let journal = read(medium.as_ref(), Part::Journal, journal::read)?;
    let snapshot = read(medium.as_ref(), Part::Snapshot, snapshot::read)?;
    let generations = medium
        .generations()
        .map_err(|error| OpenError::io(&medium.path(Part::Journal), "list the directory of", error))?;
    if journal.is_none() && snapshot.is_none() && generations.is_empty() {
        return create(home, medium, options);
    }
    let journal = journal.map(|file| file.content.unwrap_or_else(|| Found::nothing(0)));
    let snapshot_len = snapshot.as_ref().map_or(0, |file| file.len);
    let snapshot_damaged = snapshot.as_ref().is_some_and(|file| file.content.is_none());
    let header = journal.as_ref().and_then(|journal| journal.header.as_ref());
    let generation =
        header.map(|header| header.generation).or(generations.last().copied()).unwrap_or(FIRST_GENERATION);
    let (engine, view) = open_engine(medium.as_ref(), generation)?;
    let evidence = Evidence { journal, snapshot: snapshot.and_then(|file| file.content), engine: view };
    let verdict = evidence.judge();
    match (engine, &verdict.damage, &evidence.journal) {
        (Some(engine), None, Some(journal)) => {
            if snapshot_damaged {
                tracing::warn!("the snapshot is damaged; it is written anew");
            }
            let store = Store {
                snapshot: evidence.snapshot_serves().then(|| base_digest(journal).in_snapshot()),
                snapshot_len,
                ..resume(home, medium, engine, generation, options, &evidence.engine.contents, journal)
            };
            go_on(store, journal, verdict.contents, &generations)
        }
        (engine, _, _) => {
            drop(engine);
            rebuild(home, medium, options, verdict, &generations)
        }
    }
}

const FIRST_GENERATION: u64 = 1;

/// A file that exists; `content` is `None` if it is damaged beyond reading.
struct Read<T> {
    content: Option<T>,
    len: u64,
}

fn read<T>(
    medium: &dyn Medium,
    part: Part,
    parse: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<Option<Read<T>>, OpenError> {
    let path = medium.path(part);
    let Some(bytes) = medium.read(part).map_err(|error| OpenError::io(&path, "read", error))? else {
        return Ok(None);
    };
    let content = match parse(&bytes) {
        Ok(content) => Some(content),
        Err(Malformed::Damaged) => None,
        Err(Malformed::Newer(found)) => {
            return Err(OpenError::Newer { path, found, supported: FORMAT_VERSION });
        }
        Err(Malformed::Older(found)) => return Err(OpenError::Older { path, found }),
    };
    Ok(Some(Read { content, len: bytes.len() as u64 }))
}

fn base_digest(journal: &Found) -> Digest {
    journal.header.as_ref().map(|header| header.base.digest.clone()).unwrap_or_default()
}

/// A new store. The journal comes first: without it, nothing that is there was ever acknowledged.
fn create(home: Home, medium: Arc<dyn Medium>, options: Options) -> Answer {
    let header = start_journal(medium.as_ref(), FIRST_GENERATION, Mark::default())
        .map_err(|error| OpenError::io(&medium.path(Part::Journal), "create", error))?;
    let path = medium.engine_path(FIRST_GENERATION);
    let engine = medium
        .engine(FIRST_GENERATION)
        .map_err(|error| OpenError::engine(&path, "create the database", error))?;
    engine.flush().map_err(|error| OpenError::engine(&path, "create the database", error))?;
    let good = header.encode().len() as u64;
    let found = Found { header: Some(header), frames: Vec::new(), good, torn: 0, holes: false };
    let contents = Contents::default();
    let store = resume(home, medium, engine, FIRST_GENERATION, options, &contents, &found);
    Ok((store, contents, Opened::Fresh))
}

/// Opens the database and reads all of it. Refusals of the system are errors, damage is noted.
fn open_engine(
    medium: &dyn Medium,
    generation: u64,
) -> Result<(Option<Arc<dyn Engine>>, EngineView), OpenError> {
    let path = medium.engine_path(generation);
    let refused = |error| OpenError::io(&path, "read the database", error);
    let mut view = EngineView::default();
    let note = |view: &mut EngineView, error: EngineError| match error {
        EngineError::System(error) => Err(refused(error)),
        EngineError::Damaged(reason) => {
            view.failure.get_or_insert(reason);
            Ok(())
        }
    };
    let engine = match medium.engine(generation) {
        Ok(engine) => engine,
        Err(error) => {
            note(&mut view, error)?;
            return Ok((None, view));
        }
    };
    match engine.mark() {
        Ok(mark) => view.mark = mark,
        Err(error) => note(&mut view, error)?,
    }
    for tree in Tree::ALL {
        let (entries, end) = read_tree(engine.as_ref(), *tree);
        view.contents.put_tree(*tree, entries);
        if let Err(error) = end {
            note(&mut view, error)?;
        }
    }
    Ok((Some(engine), view))
}

/// A store over a sound database, with the journal's commits pending.
fn resume(
    home: Home,
    medium: Arc<dyn Medium>,
    engine: Arc<dyn Engine>,
    generation: u64,
    options: Options,
    held: &Contents,
    journal: &Found,
) -> Store {
    let (marker, base) = match &journal.header {
        Some(header) => (header.marker, header.base.sequence),
        None => (Marker::NONE, 0),
    };
    let mut pending = Pending::over(Digest::of(held));
    for frame in &journal.frames {
        let Event::Commit(set) = &frame.event else { continue };
        for (tree, key, value) in set.iter() {
            pending.set(tree, key, value, || held.get(tree, key).map(|held| crate::digest::entry(key, held)));
        }
    }
    Store {
        home,
        options,
        medium,
        engine,
        generation,
        marker,
        pending,
        sequence: journal.frames.last().map_or(base, |frame| frame.sequence),
        base,
        journal_len: journal.good,
        snapshot: Some(Digest::default()),
        snapshot_len: 0,
        unsure: marker == Marker::NONE,
        reopen: false,
        engine_failed: None,
        force_at: 0,
        last_failure: String::new(),
        commits: 0,
        checkpoints: 0,
        compactions: 0,
    }
}

/// Tidies what a crash left behind.
fn go_on(mut store: Store, journal: &Found, contents: Contents, generations: &[u64]) -> Answer {
    if journal.torn > 0 {
        let path = store.medium.path(Part::Journal);
        store
            .medium
            .cut_journal(journal.good)
            .map_err(|error| OpenError::io(&path, "cut the end of", error))?;
    }
    let stale: Vec<u64> =
        generations.iter().copied().filter(|generation| *generation != store.generation).collect();
    let mut opened = opened_as(journal);
    if store.medium.aside_begun() {
        let path = store.medium.engine_path(store.generation);
        let (aside, removed) = store
            .medium
            .finish_aside(&stale)
            .map_err(|error| OpenError::io(&path, "keep the damaged store aside, next to", error))?;
        let reason = "a repair was interrupted and is finished now; see the file `report` there".to_owned();
        let incomplete = Tree::ALL.to_vec();
        opened = Opened::Rebuilt(Rebuilt { reason, from: Default::default(), incomplete, aside, removed });
    } else {
        for generation in stale {
            if let Err(error) = store.medium.remove_engine(generation) {
                tracing::warn!(%error, generation, "a left-over database could not be removed");
            }
        }
    }
    if store.snapshot.is_none()
        && let Err(error) = store.checkpoint()
    {
        tracing::warn!(%error, "the snapshot could not be written anew");
    }
    Ok((store, contents, opened))
}

fn opened_as(journal: &Found) -> Opened {
    let commits =
        journal.frames.iter().filter(|frame| matches!(frame.event, Event::Commit(_))).count() as u64;
    if journal.frames.is_empty() && journal.torn == 0 {
        Opened::Clean
    } else {
        Opened::Replayed { commits, cut: journal.torn }
    }
}

/// Makes a new store of what was put together, then keeps the damaged one aside.
fn rebuild(
    home: Home,
    medium: Arc<dyn Medium>,
    options: Options,
    verdict: Verdict,
    generations: &[u64],
) -> Answer {
    let mut rebuilt = Rebuilt {
        reason: verdict.damage.unwrap_or_else(|| "the database is gone".to_owned()),
        from: verdict.from,
        incomplete: verdict.incomplete,
        aside: medium.path(Part::Journal).with_file_name("damaged.new"),
        removed: Vec::new(),
    };
    tracing::error!(
        reason = rebuilt.reason,
        incomplete = rebuilt.incomplete.len(),
        "the store is damaged; rebuilding"
    );
    let failed = |path, error| OpenError::io(path, "keep the damaged store aside, in", error);
    medium.begin_aside(&rebuilt.to_string()).map_err(|error| failed(&rebuilt.aside, error))?;
    let contents = verdict.contents;
    let mark = Mark { sequence: verdict.sequence.saturating_add(1), digest: Digest::of(&contents) };
    let generation = generations.last().map_or(FIRST_GENERATION, |last| last.saturating_add(1));
    let path = medium.engine_path(generation);
    let engine = fill_engine(medium.as_ref(), generation, &contents, &mark)
        .map_err(|error| OpenError::engine(&path, "rebuild the database", error))?;
    let header = start_journal(medium.as_ref(), generation, mark.clone())
        .map_err(|error| OpenError::io(&medium.path(Part::Journal), "write", error))?;
    let good = header.encode().len() as u64;
    let snapshot_len = write_snapshot(medium.as_ref(), &mark, &|visit| {
        contents.iter().try_for_each(|(tree, key, value)| visit(tree, key, value))
    })
    .map_err(|error| OpenError::io(&medium.path(Part::Snapshot), "write", error))?;
    (rebuilt.aside, rebuilt.removed) =
        medium.finish_aside(generations).map_err(|error| failed(&rebuilt.aside, error))?;
    let found = Found { header: Some(header), frames: Vec::new(), good, torn: 0, holes: false };
    let store = Store {
        snapshot: Some(mark.digest.in_snapshot()),
        snapshot_len,
        ..resume(home, medium, engine, generation, options, &contents, &found)
    };
    Ok((store, contents, Opened::Rebuilt(rebuilt)))
}

fn fill_engine(
    medium: &dyn Medium,
    generation: u64,
    contents: &Contents,
    mark: &Mark,
) -> Result<Arc<dyn Engine>, EngineError> {
    medium.remove_engine(generation)?;
    let engine = medium.engine(generation)?;
    let ops = contents.iter().map(|(tree, key, value)| (tree, key, Some(value)));
    apply_all(engine.as_ref(), ops, &|| ())?;
    engine.set_mark(mark)?;
    engine.flush()?;
    Ok(engine)
}
