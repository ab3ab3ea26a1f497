"""The one door for images: headers, decoding, encoding, and pixel work in killable children."""
