/** The application's own Vega: loaded before it is needed, and asked for one drawing at a time. */

import type { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';

type Registry = Pick<IRenderMimeRegistry, 'createRenderer'>;

const VEGA = 'application/vnd.vega.v5+json';
const VEGA_LITE = 'application/vnd.vegalite.v5+json';

const loaded = new WeakSet<Registry>();
let before: Promise<unknown> = Promise.resolve();

/** Load Vega, which takes longer than all else of a page's first chart. */
export function load(rendermime: Registry): void {
  if (loaded.has(rendermime)) {
    return;
  }
  loaded.add(rendermime);
  // There is no other way to ask for it than a drawing: an empty one.
  render(rendermime, VEGA, {}).then(
    renderer => {
      renderer.dispose();
    },
    () => {
      // Each chart will say that it could not be drawn.
    }
  );
}

/**
 * Draw `spec` once the charts before have been drawn, so that the first one is seen while the others are still at work.
 *
 * Resolves to null, and draws nothing, if it is no longer `wanted` when its turn comes.
 */
export async function draw(
  rendermime: Registry,
  spec: object,
  wanted: () => boolean
): Promise<IRenderMime.IRenderer | null> {
  const drawn = before.then(() => (wanted() ? render(rendermime, VEGA_LITE, spec) : null));
  before = drawn.then(painted, painted);
  return drawn;
}

async function render(rendermime: Registry, mime: string, spec: object): Promise<IRenderMime.IRenderer> {
  const renderer = rendermime.createRenderer(mime);
  try {
    await renderer.renderModel({
      // With a picture in the bundle, the renderer does not draw a second time to make one.
      data: { [mime]: spec as never, 'image/png': ' ' },
      metadata: { [mime]: { embed_options: { actions: false, renderer: 'svg' } } },
      trusted: false,
      setData: () => undefined
    });
  } catch (error) {
    renderer.dispose();
    throw error;
  }
  return renderer;
}

/** Resolves when the browser has had the time to show what was drawn. */
function painted(): Promise<void> {
  return new Promise(resolve => {
    setTimeout(resolve);
  });
}
