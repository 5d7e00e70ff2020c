"""Make sure that exactly one working OpenCV is importable, swapping in the headless build where there is no display.

    python scripts/check_opencv.py

mediapipe and face-alignment ask for two OpenCV wheels that write the same folder. In one version that is harmless. Both
need the system's libGL, which slim container images lack; there the headless build of the same version replaces them.
"""

import subprocess
import sys

VERSION = "4.11.0.86"
IMPORT = [sys.executable, "-c", f"import cv2; assert cv2.__version__ == '{VERSION}'.rsplit('.', 1)[0], cv2.__version__"]
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]


def main() -> int:
    """Return 0 when OpenCV imports, after replacing it if it has to be."""
    attempt = subprocess.run(IMPORT, capture_output=True, text=True)
    if attempt.returncode == 0:
        return 0
    print(f"OpenCV doesn't import here ({attempt.stderr.strip().splitlines()[-1]}); installing its headless build")
    subprocess.run([*PIP, "uninstall", "-y", "opencv-python", "opencv-contrib-python"], check=True)
    subprocess.run([*PIP, "install", "--no-deps", f"opencv-contrib-python-headless=={VERSION}"], check=True)
    return subprocess.run(IMPORT).returncode


if __name__ == "__main__":
    sys.exit(main())
