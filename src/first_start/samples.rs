//! The video and the image that a first start puts into the store, so that there is something to see.
//!
//! Both were rendered with ffmpeg from its own test sources; the video's index stands at its end on
//! purpose, because that makes a player ask for byte ranges.

/// The bucket that holds the samples.
pub const SAMPLE_BUCKET: &str = "media";

/// One object to put.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// The object key.
    pub object_key: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its bytes.
    pub bytes: &'static [u8],
}

/// Everything that is put, the video first.
pub const SAMPLES: [Sample; 2] = [
    Sample {
        object_key: "sample.mp4",
        content_type: "video/mp4",
        bytes: include_bytes!("samples/sample.mp4"),
    },
    Sample {
        object_key: "sample.png",
        content_type: "image/png",
        bytes: include_bytes!("samples/sample.png"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_video_has_its_index_at_the_end_and_is_small() {
        let video = SAMPLES[0].bytes;
        let index = |name: &[u8]| video.windows(4).position(|window| window == name).unwrap();
        assert!(index(b"mdat") < index(b"moov"));
        assert!(video.len() < 600 << 10);
    }

    #[test]
    fn the_image_is_a_png() {
        assert!(SAMPLES[1].bytes.starts_with(b"\x89PNG\r\n\x1a\n"));
    }
}
