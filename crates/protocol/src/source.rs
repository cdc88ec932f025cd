//! The sources of tracks.

/// Source of a track. A peer publishes at most one track of each source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Microphone.
    Microphone,
    /// Camera.
    Camera,
    /// Screen share video.
    Screen,
    /// Screen share audio.
    ScreenAudio,
}

impl Source {
    /// Whether it belongs to a screen share.
    pub fn is_screen(self) -> bool {
        matches!(self, Self::Screen | Self::ScreenAudio)
    }

    /// Whether it is an audio source.
    pub fn is_audio(self) -> bool {
        matches!(self, Self::Microphone | Self::ScreenAudio)
    }
}
