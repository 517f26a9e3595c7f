// The page as a server gives it.

import { HttpBackend } from "./http.js";
import { startPage } from "./page.js";

startPage(new HttpBackend());
