/** The bundler (`.ci/rolldown.config.mjs`) turns a template into its text. */
declare module "*.yml" {
  const text: string;
  export default text;
}
