//! Key-value stores shared by the participants of a meeting (docs/spec/signalling.md 6.9).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlor_protocol::signal::socket::plugin::{
    PluginStoreDeleteKeysRequest, PluginStoreGetKeysRequest, PluginStoreInsertKeysRequest,
    PluginStoreItem, StoreKeys,
};
use prost::Message;

use crate::frame::{header_len, put_length, put_text, text_len};
use crate::output::{EntryKind, Refusal};
use crate::room::{Outcome, RequestContext, Room, Step};

/// Store in which clients keep the active plugins.
const PLUGINS: &str = "__rtk_plugins__";
/// Separates the parts of a key in the records. Names that contain it are rejected.
const SEPARATOR: char = '\u{1F}';
const SEPARATOR_BYTE: u8 = SEPARATOR as u8;
/// Maximum length of a store's or key's name, in bytes.
const NAME_BYTES: usize = 256;

/// Plugin id and store name.
type StoreName = (String, String);

/// A store.
#[derive(Debug, Default)]
struct Store {
    /// Encoded items, as they are persisted and sent.
    items: BTreeMap<String, Bytes>,
    bytes: usize,
}

/// All stores of a session. Sizes are encoded sizes, including names and authors.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    by_name: BTreeMap<StoreName, Store>,
    keys: usize,
    bytes: usize,
}

impl Stores {
    /// Restores an item and returns when it was set.
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

    /// Removes keys. Retains those that existed in `keys`.
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

/// `PluginStoreResponse` with items that are already encoded.
struct Items<'s, I> {
    name: &'s StoreName,
    items: &'s [I],
}

impl<I: AsRef<[u8]>> Items<'_, I> {
    fn encoded_len(&self) -> usize {
        let (plugin, store) = self.name;
        let items = self.items.iter().map(|item| item.as_ref().len());
        let items = items.map(|length| header_len(length) + length);
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

/// Prefix of the store's keys in the records.
fn record_key_prefix(name: &StoreName) -> String {
    format!("{}{SEPARATOR}{}{SEPARATOR}", name.0, name.1)
}

fn is_valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    // Scans bytes, which is cheaper than chars: a frame holds up to 400 KiB of names.
    bytes.len() <= NAME_BYTES && !bytes.contains(&SEPARATOR_BYTE) && !bytes.contains(&0)
}

impl Room {
    /// `storeGetKeys`: some or all keys. Clients read the plugin store before they join, so it is
    /// readable for all; other stores are empty for peers that would have to wait.
    pub(crate) fn store_get(&mut self, step: &mut Step<'_>, ctx: &RequestContext<'_>) -> Outcome {
        let request: PluginStoreGetKeysRequest = ctx.message()?;
        let waits = !self.can_view_room(ctx.slot);
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
        self.cost_units.add(items.len());
        let items = Items {
            name: &name,
            items: &items,
        };
        ctx.reply_with(step, items.encoded_len(), |reply| items.write(reply));
        Ok(())
    }

    /// `storeInsertKeys`.
    pub(crate) fn store_insert(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.joined_peer(ctx.slot)?;
        let request: PluginStoreInsertKeysRequest = ctx.message()?;
        let name = (request.plugin_id, request.store_name);
        self.check_store_write(ctx, &name, &request.insert_keys, true)?;
        let items = self.encode_items(step, ctx, request.insert_keys);
        self.check_capacity(&name, &items)?;
        let prefix = record_key_prefix(&name);
        for (key, item) in &items {
            let kept = [&*prefix, key].concat();
            self.persist_entry(step, EntryKind::Store, kept, Some(item.clone()));
        }
        let encoded: Vec<&Bytes> = items.iter().map(|(_, item)| item).collect();
        self.push_store_change(step, ctx, &name, &encoded);
        self.stores.set(name, items);
        Ok(())
    }

    /// Encodes the items of a request. Of duplicate keys the last one wins; otherwise a small
    /// request could cause a large push.
    fn encode_items(
        &self,
        step: &Step<'_>,
        ctx: &RequestContext<'_>,
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
        let mut item = self.item_template(step, ctx);
        let encoded = keys.into_iter().map(|key| {
            item.store_key = key.store_key;
            item.payload = key.payload.unwrap_or_else(|| Bytes::from_static(b"{}"));
            let encoded = item.encode_to_vec().into();
            (std::mem::take(&mut item.store_key), encoded)
        });
        encoded.collect()
    }

    /// An item set by the requester now, without key and value.
    fn item_template(&self, step: &Step<'_>, ctx: &RequestContext<'_>) -> PluginStoreItem {
        PluginStoreItem {
            timestamp: step.now_ms.to_string(),
            peer_id: self.peers[ctx.slot].id().to_string(),
            ..PluginStoreItem::default()
        }
    }

    /// `storeDeleteKeys`. The push has no values, which no client reads, but carries the author,
    /// because clients ignore their own changes.
    pub(crate) fn store_delete(
        &mut self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
    ) -> Outcome {
        self.joined_peer(ctx.slot)?;
        let request: PluginStoreDeleteKeysRequest = ctx.message()?;
        let name = (request.plugin_id, request.store_name);
        let mut keys = request.delete_keys;
        self.check_store_write(ctx, &name, &keys, false)?;
        self.stores.remove(&name, &mut keys);
        let prefix = record_key_prefix(&name);
        let mut item = self.item_template(step, ctx);
        let mut items = Vec::with_capacity(keys.len());
        for key in keys {
            let kept = [&*prefix, &*key.store_key].concat();
            self.persist_entry(step, EntryKind::Store, kept, None);
            item.store_key = key.store_key;
            items.push(item.encode_to_vec());
        }
        self.push_store_change(step, ctx, &name, &items);
        Ok(())
    }

    fn check_store_write(
        &self,
        ctx: &RequestContext<'_>,
        name: &StoreName,
        keys: &[StoreKeys],
        starts: bool,
    ) -> Outcome {
        let peer = self.joined_peer(ctx.slot)?;
        if name.1 == PLUGINS {
            // A plugin is inactive if its key is null or missing.
            let off = |key: &StoreKeys| {
                let value = key.payload.as_deref().unwrap_or(b"{}");
                // Only `null` parses as `()`; parsing stops early on anything else.
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
        let good = is_valid_name(&name.0)
            && is_valid_name(&name.1)
            && keys.iter().all(|key| is_valid_name(&key.store_key));
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

    fn check_capacity(&self, name: &StoreName, items: &[(String, Bytes)]) -> Outcome {
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

    /// Pushes a change to all joined peers. Its author ignores it.
    fn push_store_change(
        &self,
        step: &mut Step<'_>,
        ctx: &RequestContext<'_>,
        name: &StoreName,
        items: &[impl AsRef<[u8]>],
    ) {
        let mut others = self.peers.sockets(crate::peer::Peer::has_joined);
        others.retain(|socket| *socket != ctx.connection);
        let change = Items { name, items };
        ctx.reply_and_push_with(step, others, change.encoded_len(), |frame| {
            change.write(frame);
        });
    }
}
