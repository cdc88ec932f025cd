//! Presets that were parsed lately.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use parlor_protocol::ids::PresetId;
use parlor_protocol::preset::PresetBody;
use parlor_store::Error;

/// Presets as they were last read by those who join, so that each version is parsed once and
/// shared.
#[derive(Default)]
pub(crate) struct PresetCache(RwLock<HashMap<PresetId, (i64, Arc<PresetBody>)>>);

/// Presets that are kept parsed; when there are more it starts over.
const PARSED_MAX: usize = 10_000;

impl PresetCache {
    /// A preset of this id and version, whose JSON was just read.
    ///
    /// # Errors
    /// When the JSON is not a preset's.
    pub(crate) fn parsed(
        &self,
        id: PresetId,
        version: i64,
        json: &str,
    ) -> Result<Arc<PresetBody>, Error> {
        let kept = self.0.read().expect("no holder of this lock panics");
        if let Some((_, body)) = kept.get(&id).filter(|(kept, _)| *kept == version) {
            return Ok(Arc::clone(body));
        }
        drop(kept);
        let body: PresetBody = serde_json::from_str(json)
            .map_err(|error| Error::Broken(format!("presets: {error}")))?;
        let body = Arc::new(body);
        let mut kept = self.0.write().expect("no holder of this lock panics");
        if kept.len() >= PARSED_MAX {
            kept.clear();
        }
        kept.insert(id, (version, Arc::clone(&body)));
        Ok(body)
    }
}
