"""Frames that no honest peer sends, by the million: whom they may harm, which is nobody."""
