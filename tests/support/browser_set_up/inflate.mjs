// Unpack Chromium, its libraries and its fonts into the folder that TMPDIR names. The package unpacks the libraries only
// where it takes the machine for one of AWS Lambda's, so the Makefile lets this look like one.
import chromium from "@sparticuz/chromium";

await chromium.executablePath();
