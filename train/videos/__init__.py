"""§4.1 frames with poses → posed views."""

from train.videos.finding import find_videos
from train.videos.frames import Frame, PosedVideo, PoseKind, VideoSource
from train.videos.lenses import Lens
from train.videos.poses import read_poses
from train.videos.preparing import video_views
from train.videos.settings import VideoMatting, VideoSettings

__all__ = [
    "Frame",
    "Lens",
    "PoseKind",
    "PosedVideo",
    "VideoMatting",
    "VideoSettings",
    "VideoSource",
    "find_videos",
    "read_poses",
    "video_views",
]
