//! A cache of parsed presets.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use parlor_protocol::ids::PresetId;
use parlor_protocol::preset::PresetBody;
use parlor_store::Error;

/// Parsed presets by ID, with their version, so that each version is parsed once and shared between
/// the participants who join with it.
#[derive(Default)]
pub(crate) struct PresetCache(RwLock<HashMap<PresetId, (i64, Arc<PresetBody>)>>);

/// Maximum number of entries; a full cache is cleared.
const PARSED_MAX: usize = 10_000;

impl PresetCache {
    /// Returns the preset with this ID and version, parsing its JSON if it is not cached.
    ///
    /// # Errors
    /// When the JSON is not a valid preset.
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
