/** `?raw`: the bundler (`.ci/rolldown.config.mjs`) turns the file into its text, as Vite does by itself. */
declare module "*?raw" {
  const text: string;
  export default text;
}
