//! Key-value stores that the people in a meeting share (docs/spec/signalling.md 6.9).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_protocol::signal::event;
use parlor_protocol::signal::socket::plugin::{
    PluginStoreDeleteKeysRequest, PluginStoreGetKeysRequest, PluginStoreInsertKeysRequest,
    PluginStoreItem, StoreKeys,
};
use prost::Message;

use crate::output::{EntryKind, Refusal};
use crate::room::{Asked, Outcome, Room, Turn};

/// The store in which clients agree on the plugins that are on.
const PLUGINS: &str = "__rtk_plugins__";
/// Between the parts of a key in the records; names that hold it are refused.
const SEPARATOR: char = '\u{1F}';
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

/// `PluginStoreResponse` with items that are encoded already: the same on the wire.
#[derive(Clone, PartialEq, prost::Message)]
struct Items {
    #[prost(string, tag = "1")]
    plugin_id: String,
    #[prost(string, tag = "2")]
    store_name: String,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    encoded: Vec<Bytes>,
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
        self.set(&name, item.store_key, Bytes::copy_from_slice(encoded));
        item.timestamp.parse().ok()
    }

    fn set(&mut self, name: &StoreName, key: String, item: Bytes) {
        let store = self.by_name.entry(name.clone()).or_default();
        let size = item.len();
        (self.bytes, store.bytes) = (self.bytes + size, store.bytes + size);
        match store.items.insert(key, item) {
            Some(old) => {
                let size = old.len();
                (self.bytes, store.bytes) = (self.bytes - size, store.bytes - size);
            }
            None => self.keys += 1,
        }
    }

    fn remove(&mut self, name: &StoreName, key: &str) -> Option<PluginStoreItem> {
        let store = self.by_name.get_mut(name)?;
        let item = store.items.remove(key)?;
        let size = item.len();
        (self.bytes, store.bytes) = (self.bytes - size, store.bytes - size);
        self.keys -= 1;
        if store.items.is_empty() {
            self.by_name.remove(name);
        }
        PluginStoreItem::decode(item).ok()
    }
}

fn kept_key(name: &StoreName, key: &str) -> String {
    format!("{}{SEPARATOR}{}{SEPARATOR}{key}", name.0, name.1)
}

fn good_name(name: &str) -> bool {
    name.len() <= NAME_BYTES && !name.contains([SEPARATOR, '\0'])
}

impl Room {
    /// `storeGetKeys`: these keys, or all. Before a join as well, because clients read the store of
    /// plugins first; what else is in stores, those who would have to wait do not learn.
    pub(crate) fn store_get(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        let request: PluginStoreGetKeysRequest = asked.message()?;
        let waits = !self.looks_in(asked.seat);
        let name = (request.plugin_id, request.store_name);
        let store = self.stores.by_name.get(&name);
        let store = store.filter(|_| !waits || name.1 == PLUGINS);
        let wanted: BTreeSet<&str> = request.get_keys.iter().map(|key| &*key.store_key).collect();
        let store_items: Vec<Bytes> = match store {
            None => Vec::new(),
            Some(store) if wanted.is_empty() => store.items.values().cloned().collect(),
            Some(store) => {
                let found = wanted.iter().filter_map(|key| store.items.get(*key));
                found.cloned().collect()
            }
        };
        self.steps.add(store_items.len());
        let response = Items {
            encoded: store_items,
            plugin_id: name.0,
            store_name: name.1,
        };
        asked.reply(turn, &response);
        Ok(())
    }

    /// `storeInsertKeys`.
    pub(crate) fn store_insert(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        self.inside(asked.seat)?;
        let request: PluginStoreInsertKeysRequest = asked.message()?;
        let name = (request.plugin_id, request.store_name);
        self.may_write(asked, &name, &request.insert_keys, true)?;
        let peer_id = self.peers[asked.seat].id().to_string();
        let items = request.insert_keys.into_iter().map(|key| {
            let item = PluginStoreItem {
                timestamp: turn.now_ms.to_string(),
                peer_id: peer_id.clone(),
                store_key: key.store_key.clone(),
                payload: key.payload.unwrap_or_else(|| Bytes::from_static(b"{}")),
            };
            (key.store_key, item)
        });
        // A key that is named twice is set once: a small request must not become a large push.
        let items: BTreeMap<String, PluginStoreItem> = items.collect();
        let encoded = |(key, item): (String, PluginStoreItem)| (key, item.encode_to_vec().into());
        let items: BTreeMap<String, Bytes> = items.into_iter().map(encoded).collect();
        self.has_room_for(&name, &items)?;
        let store_items = items.values().cloned().collect();
        for (key, item) in items {
            let kept = kept_key(&name, &key);
            self.keep_entry(turn, EntryKind::Store, kept, Some(item.to_vec()));
            self.stores.set(&name, key, item);
        }
        self.tell_store(turn, asked, event::STORE_INSERT_KEYS, name, store_items);
        Ok(())
    }

    /// `storeDeleteKeys`.
    pub(crate) fn store_delete(&mut self, turn: &mut Turn<'_>, asked: &Asked<'_>) -> Outcome {
        self.inside(asked.seat)?;
        let request: PluginStoreDeleteKeysRequest = asked.message()?;
        let name = (request.plugin_id, request.store_name);
        self.may_write(asked, &name, &request.delete_keys, false)?;
        let peer_id = self.peers[asked.seat].id().to_string();
        let mut store_items = Vec::new();
        for key in request.delete_keys {
            if let Some(item) = self.stores.remove(&name, &key.store_key) {
                let kept = kept_key(&name, &key.store_key);
                self.keep_entry(turn, EntryKind::Store, kept, None);
                let removed = PluginStoreItem {
                    timestamp: turn.now_ms.to_string(),
                    // Who removed it: clients take no notice of what they did themselves.
                    peer_id: peer_id.clone(),
                    ..item
                };
                store_items.push(removed.encode_to_vec().into());
            }
        }
        self.tell_store(turn, asked, event::STORE_DELETE_KEYS, name, store_items);
        Ok(())
    }

    fn may_write(
        &self,
        asked: &Asked<'_>,
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

    fn has_room_for(&self, name: &StoreName, items: &BTreeMap<String, Bytes>) -> Outcome {
        let (stores, limits) = (&self.stores, &self.limits);
        let store = stores.by_name.get(name);
        if store.is_none() && stores.by_name.len() >= limits.store_count {
            return Err(Refusal::new(409, "this session has too many stores"));
        }
        let replaced = |key: &String| store.and_then(|store| store.items.get(key));
        let old: Vec<&Bytes> = items.keys().filter_map(replaced).collect();
        if stores.keys + items.len() - old.len() > limits.store_keys {
            let message = "the stores of this session hold too many keys";
            return Err(Refusal::new(409, message));
        }
        let old: usize = old.iter().map(|item| item.len()).sum();
        let new: usize = items.values().map(Bytes::len).sum();
        if stores.bytes - old + new > limits.store_bytes {
            return Err(Refusal::new(409, "the stores of this session are full"));
        }
        // Clients read a store as a whole, in one reply.
        if store.map_or(0, |store| store.bytes) - old + new > limits.reply_bytes {
            return Err(Refusal::new(409, "this store is full"));
        }
        Ok(())
    }

    /// Everybody inside learns of a change; its author takes no notice.
    fn tell_store(
        &self,
        turn: &mut Turn<'_>,
        asked: &Asked<'_>,
        event: u32,
        (plugin_id, store_name): StoreName,
        store_items: Vec<Bytes>,
    ) {
        let change = Items {
            plugin_id,
            store_name,
            encoded: store_items,
        };
        let mut others = self.peers.sockets(crate::peer::Peer::is_inside);
        others.retain(|socket| *socket != asked.connection);
        turn.push(others, event, &change);
        asked.reply(turn, &change);
    }
}
