//! Key-value stores that the people in a meeting share (docs/spec/signalling.md 6.9).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_protocol::signal::socket::plugin::{
    PluginStoreDeleteKeysRequest, PluginStoreGetKeysRequest, PluginStoreInsertKeysRequest,
    PluginStoreItem, StoreKeys,
};
use prost::Message;

use crate::frame::{head_len, put_length, put_text, text_len};
use crate::output::{EntryKind, Refusal};
use crate::room::{Outcome, RequestContext, Room, Turn};

/// The store in which clients agree on the plugins that are on.
const PLUGINS: &str = "__rtk_plugins__";
/// Between the parts of a key in the records; names that hold it are refused.
const SEPARATOR: char = '\u{1F}';
const SEPARATOR_BYTE: u8 = SEPARATOR as u8;
/// The longest name of a store or key, in bytes.
const NAME_BYTES: usize = 256;

/// Plugin id and store name.
type StoreName = (String, String);

/// One store.
#[derive(Debug, Default)]
struct Store {
    /// Encoded, as they are kept and sent.
    items: BTreeMap<String, Bytes>,
    bytes: usize,
}

/// Every store of a session. Sizes are those on the wire, names and authors included.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    by_name: BTreeMap<StoreName, Store>,
    keys: usize,
    bytes: usize,
}

impl Stores {
    /// Takes an item of the records. When it was set.
    pub(crate) fn restore(&mut self, key: &str, encoded: &[u8]) -> Option<i64> {
        let mut parts = key.splitn(3, SEPARATOR);
        let (plugin, store) = (parts.next()?, parts.next()?);
        let item = PluginStoreItem::decode(encoded).ok()?;
        let name = (plugin.to_owned(), store.to_owned());
        let encoded = Bytes::copy_from_slice(encoded);
        self.set(name, vec![(item.store_key, encoded)]);
        item.timestamp.parse().ok()
    }

    fn set(&mut self, name: StoreName, items: Vec<(String, Bytes)>) {
        if items.is_empty() {
            return;
        }
        let store = self.by_name.entry(name).or_default();
        for (key, item) in items {
            let new = item.len();
            let old = store.items.insert(key, item);
            self.keys += usize::from(old.is_none());
            let old = old.map_or(0, |old| old.len());
            self.bytes = self.bytes + new - old;
            store.bytes = store.bytes + new - old;
        }
    }

    /// Removes keys. Those that were there are left in the list.
    fn remove(&mut self, name: &StoreName, keys: &mut Vec<StoreKeys>) {
        let Some(store) = self.by_name.get_mut(name) else {
            return keys.clear();
        };
        keys.retain(|key| {
            let item = store.items.remove(&key.store_key);
            let size = item.as_ref().map_or(0, Bytes::len);
            (self.bytes, store.bytes) = (self.bytes - size, store.bytes - size);
            item.is_some()
        });
        self.keys -= keys.len();
        if store.items.is_empty() {
            self.by_name.remove(name);
        }
    }
}

/// `PluginStoreResponse` of items that are encoded already.
struct Items<'s, I> {
    name: &'s StoreName,
    items: &'s [I],
}

impl<I: AsRef<[u8]>> Items<'_, I> {
    fn encoded_len(&self) -> usize {
        let (plugin, store) = self.name;
        let items = self.items.iter().map(|item| item.as_ref().len());
        let items = items.map(|length| head_len(length) + length);
        text_len(plugin) + text_len(store) + items.sum::<usize>()
    }

    fn write(&self, to: &mut Vec<u8>) {
        put_text(1, &self.name.0, to);
        put_text(2, &self.name.1, to);
        for item in self.items {
            put_length(3, item.as_ref().len(), to);
            to.extend_from_slice(item.as_ref());
        }
    }
}

/// What is before the key in the records.
fn kept_prefix(name: &StoreName) -> String {
    format!("{}{SEPARATOR}{}{SEPARATOR}", name.0, name.1)
}

fn good_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    // One byte at a time: a frame holds 400 KiB of names.
    bytes.len() <= NAME_BYTES && !bytes.contains(&SEPARATOR_BYTE) && !bytes.contains(&0)
}

impl Room {
    /// `storeGetKeys`: these keys, or all. Before a join as well, because clients read the store of
    /// plugins first; what else is in stores, those who would have to wait do not learn.
    pub(crate) fn store_get(&mut self, turn: &mut Turn<'_>, asked: &RequestContext<'_>) -> Outcome {
        let request: PluginStoreGetKeysRequest = asked.message()?;
        let waits = !self.looks_in(asked.seat);
        let name = (request.plugin_id, request.store_name);
        let store = self.stores.by_name.get(&name);
        let store = store.filter(|_| !waits || name.1 == PLUGINS);
        let wanted: BTreeSet<&str> = request.get_keys.iter().map(|key| &*key.store_key).collect();
        let items: Vec<&Bytes> = match store {
            None => Vec::new(),
            Some(store) if wanted.is_empty() => store.items.values().collect(),
            Some(store) => {
                let found = wanted.iter().filter_map(|key| store.items.get(*key));
                found.collect()
            }
        };
        self.steps.add(items.len());
        let items = Items {
            name: &name,
            items: &items,
        };
        asked.reply_with(turn, items.encoded_len(), |reply| items.write(reply));
        Ok(())
    }

    /// `storeInsertKeys`.
    pub(crate) fn store_insert(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.inside(asked.seat)?;
        let request: PluginStoreInsertKeysRequest = asked.message()?;
        let name = (request.plugin_id, request.store_name);
        self.may_write(asked, &name, &request.insert_keys, true)?;
        let items = self.items_of(turn, asked, request.insert_keys);
        self.has_room_for(&name, &items)?;
        let prefix = kept_prefix(&name);
        for (key, item) in &items {
            let kept = [&*prefix, key].concat();
            self.keep_entry(turn, EntryKind::Store, kept, Some(item.clone()));
        }
        let encoded: Vec<&Bytes> = items.iter().map(|(_, item)| item).collect();
        self.tell_store(turn, asked, &name, &encoded);
        self.stores.set(name, items);
        Ok(())
    }

    /// What is set by a request, encoded. A key that is named twice is set once, to what is said last:
    /// a small request must not become a large push.
    fn items_of(
        &self,
        turn: &Turn<'_>,
        asked: &RequestContext<'_>,
        mut keys: Vec<StoreKeys>,
    ) -> Vec<(String, Bytes)> {
        keys.sort_by(|one, other| one.store_key.cmp(&other.store_key));
        keys.dedup_by(|later, kept| {
            let same = later.store_key == kept.store_key;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        let mut item = self.item_by(turn, asked);
        let encoded = keys.into_iter().map(|key| {
            item.store_key = key.store_key;
            item.payload = key.payload.unwrap_or_else(|| Bytes::from_static(b"{}"));
            let encoded = item.encode_to_vec().into();
            (std::mem::take(&mut item.store_key), encoded)
        });
        encoded.collect()
    }

    /// An item that whoever asks changes now, without its key and content.
    fn item_by(&self, turn: &Turn<'_>, asked: &RequestContext<'_>) -> PluginStoreItem {
        PluginStoreItem {
            timestamp: turn.now_ms.to_string(),
            peer_id: self.peers[asked.seat].id().to_string(),
            ..PluginStoreItem::default()
        }
    }

    /// `storeDeleteKeys`. What was removed is told without its content, which no client reads, and
    /// with who removed it: clients take no notice of what they did themselves.
    pub(crate) fn store_delete(
        &mut self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
    ) -> Outcome {
        self.inside(asked.seat)?;
        let request: PluginStoreDeleteKeysRequest = asked.message()?;
        let name = (request.plugin_id, request.store_name);
        let mut keys = request.delete_keys;
        self.may_write(asked, &name, &keys, false)?;
        self.stores.remove(&name, &mut keys);
        let prefix = kept_prefix(&name);
        let mut item = self.item_by(turn, asked);
        let mut items = Vec::with_capacity(keys.len());
        for key in keys {
            let kept = [&*prefix, &*key.store_key].concat();
            self.keep_entry(turn, EntryKind::Store, kept, None);
            item.store_key = key.store_key;
            items.push(item.encode_to_vec());
        }
        self.tell_store(turn, asked, &name, &items);
        Ok(())
    }

    fn may_write(
        &self,
        asked: &RequestContext<'_>,
        name: &StoreName,
        keys: &[StoreKeys],
        starts: bool,
    ) -> Outcome {
        let peer = self.inside(asked.seat)?;
        if name.1 == PLUGINS {
            // A plugin is off when its key holds null or is gone.
            let off = |key: &StoreKeys| {
                let value = key.payload.as_deref().unwrap_or(b"{}");
                // Only null is read as nothing, and nothing else is read to its end.
                serde_json::from_slice::<()>(value).is_ok()
            };
            let closes = !starts || keys.iter().any(off);
            let opens = starts && (keys.is_empty() || !keys.iter().all(off));
            let may = &peer.permissions.plugins;
            if closes && !may.can_close {
                return Err(Refusal::forbidden("plugins.can_close"));
            }
            if opens && !may.can_start {
                return Err(Refusal::forbidden("plugins.can_start"));
            }
        }
        let longest = self.limits.store_value_bytes;
        let good = good_name(&name.0)
            && good_name(&name.1)
            && keys.iter().all(|key| good_name(&key.store_key));
        if !good {
            let message = format!("names of stores and keys have at most {NAME_BYTES} bytes");
            return Err(Refusal::new(400, message));
        }
        let large = |key: &StoreKeys| {
            key.payload
                .as_ref()
                .is_some_and(|value| value.len() > longest)
        };
        if keys.iter().any(large) {
            let message = format!("a value has at most {longest} bytes");
            return Err(Refusal::new(413, message));
        }
        Ok(())
    }

    fn has_room_for(&self, name: &StoreName, items: &[(String, Bytes)]) -> Outcome {
        let (stores, limits) = (&self.stores, &self.limits);
        let store = stores.by_name.get(name);
        if store.is_none() && stores.by_name.len() >= limits.store_count {
            return Err(Refusal::new(409, "this session has too many stores"));
        }
        let (mut old_keys, mut old, mut new) = (0, 0, 0);
        for (key, item) in items {
            new += item.len();
            if let Some(replaced) = store.and_then(|store| store.items.get(key)) {
                (old_keys, old) = (old_keys + 1, old + replaced.len());
            }
        }
        if stores.keys + items.len() - old_keys > limits.store_keys {
            let message = "the stores of this session hold too many keys";
            return Err(Refusal::new(409, message));
        }
        if stores.bytes - old + new > limits.store_bytes {
            return Err(Refusal::new(409, "the stores of this session are full"));
        }
        // Clients read a store as a whole, in one reply.
        if new > old && store.map_or(0, |store| store.bytes) - old + new > limits.reply_bytes {
            return Err(Refusal::new(409, "this store is full"));
        }
        Ok(())
    }

    /// Everybody inside learns of a change; its author takes no notice.
    fn tell_store(
        &self,
        turn: &mut Turn<'_>,
        asked: &RequestContext<'_>,
        name: &StoreName,
        items: &[impl AsRef<[u8]>],
    ) {
        let mut others = self.peers.sockets(crate::peer::Peer::is_inside);
        others.retain(|socket| *socket != asked.connection);
        let change = Items { name, items };
        asked.tell_with(turn, others, change.encoded_len(), |frame| {
            change.write(frame);
        });
    }
}
