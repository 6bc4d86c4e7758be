"""A Wyoming speech-to-text server whose one engine hands an utterance on when a backend fails."""
